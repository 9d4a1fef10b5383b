"""Binds an installation to its database, and refuses an outbox that came here without its ledger."""

from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from dispatcher.config.table_names import OutboxTable
from dispatcher.install.files import as_sql
from dispatcher.install.session import Connection, one_value
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import Installation, read_installation

NEWEST_ROWS = 10_000
LEDGER_EXISTS = "select to_regclass('dispatcher.delivery') is not null and to_regclass('dispatcher.action') is not null"
LEDGER_IS_UNUSED = """
select not exists (select from dispatcher.delivery)
  and not exists (select from dispatcher.action where action in ('adopt', 'renew'))
"""
OWN_OUTCOME = """
select exists (
  select from (select error_details::jsonb as details from {outbox} order by id desc limit {limit}) n
  where jsonb_typeof(details) = 'object' and details ?& array['generation', 'outcome']
)
"""
BIND = """
update dispatcher.installation
set id = %(id)s, bound_to = %(marks)s,
  -- The original may have lost its newest commits, so its waiting rows are looked up before their first call.
  restored_at = case when %(action)s = 'adopt' then clock_timestamp() else restored_at end
"""
RECORD = "insert into dispatcher.action (action, notification_ids, detail) values (%s, %s, %s)"


async def refuse_restored_outbox(connection: Connection, outbox: OutboxTable) -> None:
    """Raise ConfigurationError if newest rows of the outbox have outcomes of ours, but the ledger has never been used.

    Such an outbox was restored or copied without its ledger, and a new ledger would not know what was sent.
    """
    if await one_value(connection, LEDGER_EXISTS) and not await one_value(connection, LEDGER_IS_UNUSED):
        return
    statement = as_sql(OWN_OUTCOME).format(outbox=outbox.identifier, limit=sql.Literal(NEWEST_ROWS))
    [[found]] = await (await connection.execute(statement)).fetchall()
    if found:
        raise ConfigurationError(
            f"{outbox} has rows that a dispatcher sent, but the ledger is empty: the table came here without it, so"
            " nobody knows which of the other rows were sent. To send them: dispatcher db adopt, with"
            " DISPATCHER_INSTALLATION set to the id of before if you know it. To hold them: dispatcher db renew"
        )


async def adopt_configured(connection: Connection, configured: UUID | None) -> str | None:
    """Bind the installation here if the setting names it, or if its ledger was never used; the setting is its id then.

    Returns why nothing may be sent from this database, if that is so. `configured`: DISPATCHER_INSTALLATION.
    """
    installation = await read_installation(connection)
    if configured is not None and configured != installation.id and await one_value(connection, LEDGER_IS_UNUSED):
        await bind(connection, installation, configured, "adopt")
        return None
    if configured == installation.id and installation.is_elsewhere:
        await bind(connection, installation, installation.id, "adopt")
    return installation.mismatch(configured)


async def bind(
    connection: Connection, installation: Installation, new_id: UUID, action: str, ids: list[int] | None = None
) -> None:
    """Bind the installation to this database under `new_id`, and record the action. `ids`: the rows that it changed."""
    async with connection.transaction():
        await connection.execute(BIND, {"id": new_id, "marks": Jsonb(installation.marks), "action": action})
        detail = Jsonb({"installation": str(new_id), "before": str(installation.id), "bound_to": installation.bound_to})
        await connection.execute(RECORD, (action, ids or [], detail))
