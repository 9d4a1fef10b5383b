"""What has to be true before anything is touched: each failing check is one sentence with its remedy.

Reads catalogues only, which every role may, so a missing right shows here and not half-way.
"""

from dataclasses import dataclass

from dispatcher.config.table_names import OutboxTable, Table
from dispatcher.install.session import Connection, one_value
from dispatcher.models.errors import ConfigurationError

MIN_SERVER_VERSION = 15
STATUSES = ("PENDING", "PROCESSING", "SENT", "FAILED", "RETRACTED")
INTEGER = ("bigint", "integer")
TEXT = ("text", "character varying")
JSON = ("jsonb", "json")
TIME = ("timestamp with time zone",)
ARRAY = ("an array",)
ENUM = ("an enum", *TEXT)
ANY = ()

# The columns that Dispatcher reads or writes, with the types it can use. More columns are none of its business.
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
LABELS = {"publish_status": ("PUBLISH",), "notification_status": STATUSES}

TABLE = """
select c.oid, c.relkind::text, c.relispartition or exists (select from pg_inherits where inhrelid = c.oid) as child
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = %s
"""
# What a policy would filter for this session's role, whatever row_security says; our own tables too.
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
    """A column of a table of the host."""

    type: str
    labels: list[str]


async def check(connection: Connection, outbox: OutboxTable) -> int:
    """Refuse what can never work; return the outbox's oid."""
    await check_server(connection)
    return await check_outbox(connection, outbox)


async def check_outbox(connection: Connection, outbox: OutboxTable) -> int:
    """Refuse tables that lack what we use, or whose rows we would not see; return the outbox's oid."""
    found = await check_table(connection, outbox, "set DISPATCHER_OUTBOX, or create it (db install --dev-schema)")
    check_columns(outbox, await columns(connection, found), OUTBOX_COLUMNS)
    workflow = await check_table(connection, outbox.workflow, "the table of Novu workflows stands beside the outbox")
    check_columns(outbox.workflow, await columns(connection, workflow), WORKFLOW_COLUMNS)
    await check_row_security(connection, outbox)
    return found


async def check_server(connection: Connection) -> None:
    """Refuse a server that is too old or does not take writes."""
    version = connection.info.server_version // 10000
    if version < MIN_SERVER_VERSION:
        raise ConfigurationError(f"PostgreSQL {version} is too old: Dispatcher needs {MIN_SERVER_VERSION} or newer")
    if await one_value(connection, "select pg_is_in_recovery()"):
        raise ConfigurationError("this server is a standby, which takes no changes: give the primary's URL")


async def check_table(connection: Connection, table: Table, remedy: str) -> int:
    """Refuse a table that is missing or not an ordinary one; return its oid."""
    row = await (await connection.execute(TABLE, (table.schema, table.name))).fetchone()
    if row is None:
        raise ConfigurationError(f"table {table} does not exist in {connection.info.dbname}: {remedy}")
    oid, kind, child = row
    if kind != "r" or child:
        what = {"p": "is partitioned", "r": "is a partition or inherits"}.get(str(kind), "is not a table")
        raise ConfigurationError(f"{table} {what}: Dispatcher needs an ordinary table of its own")
    return int(str(oid))


async def check_row_security(connection: Connection, outbox: OutboxTable) -> None:
    """Refuse a role from which a policy would hide rows: they would never be sent, and nobody would know."""
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
    """Return the columns of a table with their types, domains seen through."""
    rows = await (await connection.execute(COLUMNS, (table,))).fetchall()
    return {str(name): Column(str(kind), list(labels)) for name, kind, labels in rows}  # pyright: ignore[reportArgumentType]


def check_columns(table: Table, found: dict[str, Column], needed: dict[str, tuple[str, ...]]) -> None:
    """Refuse missing columns, unusable types and missing enum labels."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise ConfigurationError(f"table {table} lacks {listed(missing, 'column')}: add what is missing")
    for name, types in needed.items():
        if types and found[name].type not in types:
            raise ConfigurationError(
                f"column {name} of {table} is {found[name].type}, which Dispatcher cannot use:"
                f" it has to be {' or '.join(types)}"
            )
    for name, labels in LABELS.items():
        if name in needed and found[name].type == "an enum":
            check_labels(table, name, [label for label in labels if label not in found[name].labels])


def check_labels(table: Table, column: str, missing: list[str]) -> None:
    if missing:
        raise ConfigurationError(
            f"the enum of {table}.{column} lacks {listed(missing, 'label')}: add it with ALTER TYPE … ADD VALUE"
        )


def listed(names: list[str], noun: str) -> str:
    """Return `names` for a sentence."""
    return f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
