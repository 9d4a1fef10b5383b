"""A person's word about a database whose installation may be a copy: the original goes on, a copy becomes another one.

`adopt` binds the installation to the database in which it stands now. `renew` makes a copy an installation of its own,
with a new id and an empty ledger, because what the ledger says was done by the original. Rows that were not sent yet
are held until `release`: they are deactivated.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install.files import as_sql
from dispatcher.install.identity import RECORD, bind
from dispatcher.install.installer import install
from dispatcher.install.options import DEFAULT, Options, Say, say_nothing
from dispatcher.install.session import Connection, connect_exclusive_session, exclusive, limit_locks, one_value
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import read_installation

HOLD = """
update {outbox} n
set deactivated = true, updated_at = now(),
  notification_status = case when n.notification_status = 'PROCESSING' then 'PENDING' else n.notification_status end
where n.notification_status in ('PENDING', 'PROCESSING') and n.publish_status = 'PUBLISH' and not n.deactivated
returning n.id
"""
RELEASE = """
update {outbox} n set deactivated = false, updated_at = now()
where n.deactivated and n.notification_status = 'PENDING'
  and n.id in (select unnest(notification_ids) from dispatcher.action where action = 'renew')
returning n.id
"""
EMPTY_LEDGER = "truncate dispatcher.delivery, dispatcher.recipient, dispatcher.node"
LEDGER_IS_EMPTY = "select not exists (select from dispatcher.delivery)"


@dataclass(frozen=True)
class Identity:
    """The result of a command: the installation that the database has now, and the rows that were held or released."""

    installation: UUID
    rows: int


async def adopt(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> Identity:
    """Bind the installation to this database. An empty ledger gets the id of the setting, if one is given.

    Raises ConfigurationError if the setting names another installation than that of a ledger with rows.
    """
    async with installed(url, options, say) as connection:
        installation = await read_installation(connection)
        wanted = options.installation or installation.id
        if wanted != installation.id and not await one_value(connection, LEDGER_IS_EMPTY):
            raise ConfigurationError(
                f"this database has installation {installation.id}, DISPATCHER_INSTALLATION is {wanted}: to adopt it,"
                " correct or remove the setting; if the database is a copy, run dispatcher db renew"
            )
        await bind(connection, installation, wanted, "adopt")
    return Identity(wanted, 0)


async def renew(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> Identity:
    """Give a copy a new id and an empty ledger, and hold its unsent rows."""
    async with installed(url, options, say) as connection:
        held = await changed_rows(connection, HOLD, parse_outbox_name(options.outbox))
        await connection.execute(EMPTY_LEDGER.encode())
        new = uuid4()
        await bind(connection, await read_installation(connection), new, "renew", held)
    return Identity(new, len(held))


async def release(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> Identity:
    """Activate the rows again that `renew` held, so that they are sent."""
    async with installed(url, options, say) as connection:
        released = await changed_rows(connection, RELEASE, parse_outbox_name(options.outbox))
        await connection.execute(RECORD, ("release", released, None))
        installation = await read_installation(connection)
    return Identity(installation.id, len(released))


@asynccontextmanager
async def installed(url: str, options: Options, say: Say) -> AsyncGenerator[Connection]:
    """Install or upgrade, then run the block in one transaction, as the only installer of this database."""
    await install(url, replace(options, restored=True), say)
    async with connect_exclusive_session(url) as connection, exclusive(connection, options, say):
        await limit_locks(connection, options.lock_timeout)
        async with connection.transaction():
            yield connection


async def changed_rows(connection: Connection, statement: str, outbox: OutboxTable) -> list[int]:
    """Run an update of the outbox; return the ids of the changed rows."""
    cursor = await connection.execute(as_sql(statement).format(outbox=outbox.identifier))
    return [int(str(notification_id)) for (notification_id,) in await cursor.fetchall()]
