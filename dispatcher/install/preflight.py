"""Checks the server and the user's tables before anything is changed. A failed check is one sentence with its remedy.

The checks read only catalogues. Every role may read those, so a missing right is found here and not half-way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.config.table_names import OutboxTable, Table
from dispatcher.install.ledger_preflight import check_ledger
from dispatcher.install.session import Connection, one_value
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import Status

MIN_SERVER_VERSION = 15
REQUIRED_STATUSES = tuple(status.value for status in Status if status is not Status.PARTIAL)
INTEGER = ("bigint", "integer")
TEXT = ("text", "character varying")
JSON = ("jsonb", "json")
TIME = ("timestamp with time zone",)
ARRAY = ("an array",)
ENUM = ("an enum", *TEXT)
ANY = ()

# The columns that Dispatcher reads or writes, with the types it can use. A table may have more columns.
OUTBOX_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": INTEGER,
    "publish_status": ENUM,
    "deactivated": ("boolean",),
    "notification_workflow_id": INTEGER,
    "notification_status": ENUM,
    "payload": JSON,
    "recipients": ARRAY,
    "channels": ARRAY,
    "overrides": JSON,
    "transaction_id": TEXT,
    "scheduled_for": TIME,
    "processed_at": TIME,
    "retracted_at": TIME,
    "error_details": JSON,
    "enterprise_id": ANY,
    "created_at": TIME,
    "updated_at": TIME,
}
WORKFLOW_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": INTEGER,
    "workflow_key": TEXT,
    "publish_status": ENUM,
    "deactivated": ("boolean",),
    "default_channels": ARRAY,
    "enterprise_id": ANY,
}
LABELS = {"publish_status": ("PUBLISH",), "notification_status": REQUIRED_STATUSES}

TABLE = """
select c.oid, c.relkind::text, c.relispartition or exists (select from pg_inherits where inhrelid = c.oid) as child
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = %s
"""
# Tables of which a policy hides rows from this session's role, independent of the setting row_security; ours too.
HIDING = """
select n.nspname, c.relname
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind = 'r' and row_security_active(c.oid)
  and (n.nspname = %s and c.relname = any(%s) or n.nspname = 'dispatcher')
order by 1, 2
"""
COLUMNS = """
select
  a.attname,
  case
    when t.typcategory = 'A' then 'an array' when t.typtype = 'e' then 'an enum' else format_type(t.oid, null)
  end,
  array(select enumlabel::text from pg_enum where enumtypid = t.oid)
from pg_attribute as a
join pg_type as declared on declared.oid = a.atttypid
join pg_type as t on t.oid = case declared.typtype when 'd' then declared.typbasetype else declared.oid end
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
"""


@dataclass(frozen=True)
class Column:
    """A column of a user's table: its type, or `an array` or `an enum`, and an enum's labels."""

    type: str
    labels: list[str]


async def check(connection: Connection, outbox: OutboxTable) -> int:
    """Check server, ledger and tables. Return the outbox's oid. Raises ConfigurationError at the first failed check."""
    await check_server(connection)
    await check_ledger(connection)
    return await check_outbox(connection, outbox)


async def check_outbox(connection: Connection, outbox: OutboxTable) -> int:
    """Check columns, types and policies of the user's tables. Return the outbox's oid.

    Raises ConfigurationError at the first failed check.
    """
    found = await check_table(connection, outbox, "set DISPATCHER_OUTBOX, or create it (db install --dev-schema)")
    check_columns(outbox, await columns(connection, found), OUTBOX_COLUMNS)
    workflow = await check_table(
        connection, outbox.workflow, "the table of Novu workflows has to be in the outbox's schema"
    )
    check_columns(outbox.workflow, await columns(connection, workflow), WORKFLOW_COLUMNS)
    await check_row_security(connection, outbox)
    return found


async def check_server(connection: Connection) -> None:
    """Raise ConfigurationError if the server is older than PostgreSQL 15 or a standby."""
    version = connection.info.server_version // 10000
    if version < MIN_SERVER_VERSION:
        raise ConfigurationError(f"PostgreSQL {version} is too old: Dispatcher needs {MIN_SERVER_VERSION} or newer")
    if await one_value(connection, "select pg_is_in_recovery()"):
        raise ConfigurationError("this server is a standby, which takes no changes: use the primary's URL")


async def check_table(connection: Connection, table: Table, remedy: str) -> int:
    """Return the table's oid. Raises ConfigurationError if it is missing (with `remedy`) or no ordinary table."""
    row = await (await connection.execute(TABLE, (table.schema, table.name))).fetchone()
    if row is None:
        raise ConfigurationError(f"table {table} does not exist in {connection.info.dbname}: {remedy}")
    oid, kind, child = row
    if kind != "r" or child:
        reason = {"p": "is partitioned", "r": "is a partition or inherits"}.get(str(kind), "is not a table")
        raise ConfigurationError(f"{table} {reason}: Dispatcher needs an ordinary table")
    return int(str(oid))


async def check_row_security(connection: Connection, outbox: OutboxTable) -> None:
    """Raise ConfigurationError if a policy could hide rows from our role: they would stay unsent without an error."""
    hidden = [
        str(Table(str(schema), str(name)))
        for schema, name in await (
            await connection.execute(HIDING, (outbox.schema, [outbox.name, outbox.workflow.name]))
        ).fetchall()
    ]
    if hidden:
        raise ConfigurationError(
            f"row-level security hides rows of {', '.join(hidden)} from role {connection.info.user}: use a role with"
            " BYPASSRLS (on Supabase postgres or service_role), or the owner without FORCE ROW LEVEL SECURITY;"
            " a policy is not enough"
        )


async def columns(connection: Connection, table: int) -> dict[str, Column]:
    """Return the columns of a table by name. For a domain, the type is the one that it is based on."""
    rows = await (await connection.execute(COLUMNS, (table,))).fetchall()
    return {str(name): Column(str(kind), list(labels)) for name, kind, labels in rows}  # pyright: ignore[reportArgumentType]


def check_columns(table: Table, found: dict[str, Column], needed: dict[str, tuple[str, ...]]) -> None:
    """Raise ConfigurationError for a missing column, a type that we cannot use, or a missing enum label."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise ConfigurationError(
            f"table {table} lacks {listed(missing, 'column')}: add {'it' if len(missing) == 1 else 'them'}"
        )
    for name, types in needed.items():
        if types and found[name].type not in types:
            raise ConfigurationError(
                f"column {name} of {table} is {found[name].type}, which Dispatcher cannot use:"
                f" it has to be {' or '.join(types)}"
            )
    for name, labels in LABELS.items():
        if name in needed and found[name].type == "an enum":
            check_labels(table, name, labels, found[name].labels)


def check_labels(table: Table, column: str, needed: Sequence[str], found: Sequence[str]) -> None:
    """Raise ConfigurationError if the column's enum lacks one of the `needed` labels."""
    if missing := [label for label in needed if label not in found]:
        raise ConfigurationError(
            f"the enum of {table}.{column} lacks {listed(missing, 'label')}: add it with ALTER TYPE … ADD VALUE"
        )


def listed(names: list[str], noun: str) -> str:
    """Return `names` as part of a sentence: "the columns a, b"."""
    return f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
