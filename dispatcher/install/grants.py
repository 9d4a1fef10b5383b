"""The rights that the role of `dispatcher run` needs: the SQL that grants them, and the check when `run` starts.

Both use one list, so the check asks for no right that the SQL does not grant. The role can read only the columns that
we read, and write only those that we write. It cannot insert or delete rows of the outbox. The rights for an operator's
commands are granted separately.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from dispatcher.config.table_names import MAX_NAME_BYTES, OutboxTable, Table, parse_outbox_name
from dispatcher.install.files import as_sql
from dispatcher.install.preflight import OUTBOX_COLUMNS, WORKFLOW_COLUMNS
from dispatcher.install.session import Connection
from dispatcher.models.errors import ConfigurationError

UNREAD = ("channels", "processed_at", "updated_at")
WRITTEN = ("notification_status", "transaction_id", "error_details", "retracted_at", *UNREAD)
READ = tuple(column for column in OUTBOX_COLUMNS if column not in UNREAD)
LEDGER_PRIVILEGES = {
    "installation": ("SELECT",),
    "delivery": ("SELECT", "INSERT", "UPDATE"),
    "recipient": ("SELECT", "INSERT", "UPDATE"),
    "node": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}

# More rights for an operator's commands. The columns `name` and `retraction_reason` exist at XNovu; another outbox may
# lack them.
TESTED = ("publish_status", "notification_workflow_id", "enterprise_id", "payload", "recipients")
NAMED = {"name": "select, insert", "retraction_reason": "update"}

OPENING = """\
-- The least rights that the role of `dispatcher run` needs. Run this after `dispatcher db install`, as the tables'
-- owner. It may be run again. LISTEN, NOTIFY and the triggers need no right.
set search_path = pg_catalog, pg_temp;

-- To connect, and to find the tables. The type of notification_status may be in another schema.
"""
CONNECT_GRANTS = """
declare
  type_schema text;
begin
  if not has_database_privilege({role}, current_database(), 'CONNECT') then
    execute format('grant connect on database %I to %I', current_database(), {role});
  end if;
  for type_schema in
    select n.nspname from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    join pg_namespace n on n.oid = t.typnamespace
    where a.attrelid = {outbox}::regclass and a.attname = 'notification_status'
      and not has_schema_privilege({role}, n.oid, 'USAGE')
  loop
    execute format('grant usage on schema %I to %I', type_schema, {role});
  end loop;
end
"""
SCHEMAS = "grant usage on schema {}, dispatcher to {};\n"
CLAIM = """
-- To read a notification and its Novu workflow, and to write its status and result.
"""
LEDGER_GRANTS = """
-- To read and write the ledger, and to delete from it what is older than its retention.
"""

OPERATOR_GRANTS = """
-- For an operator's commands: to record each action, to insert a test notification, to read names and write reasons.
"""
NAMES = """
begin
  if exists (
    select from pg_attribute where attrelid = {outbox}::regclass and attname = {column} and not attisdropped
  ) then
    grant {privileges} on {table} to {role};
  end if;
end
"""

LACKING = """
with wanted as (
  select * from unnest(%(schemas)s::text[], %(tables)s::text[], %(privileges)s::text[], %(columns)s::text[])
    as w (schema, name, privilege, attribute)
),
status_type as (
  select t.typnamespace from pg_type t join pg_attribute a on a.atttypid = t.oid
  where a.attname = 'notification_status' and a.attrelid = %(outbox)s
)
select current_user::text, 'USAGE', null, 'schema ' || quote_ident(nspname)
from pg_namespace
where (nspname in (select schema from wanted) or oid in (select typnamespace from status_type))
  and not has_schema_privilege(oid, 'USAGE')
union all
select current_user::text, w.privilege, w.attribute, format('%%I.%%I', w.schema, w.name)
from wanted w
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name
left join pg_attribute a on a.attrelid = c.oid and a.attname = w.attribute
where not case when w.attribute is null then has_table_privilege(c.oid, w.privilege)
  else has_column_privilege(c.oid, a.attnum, w.privilege) end
"""


@dataclass(frozen=True)
class Right:
    """Privileges on a table, or on some of its columns."""

    table: Table
    privileges: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def each(self) -> Iterator[tuple[str, str, str, str | None]]:
        """Yield schema, table, privilege and column of each single right; no column for a right on the whole table."""
        for privilege in self.privileges:
            for column in self.columns or (None,):
                yield self.table.schema, self.table.name, privilege, column

    def grant(self, role: str) -> sql.Composed:
        """Return the statement that grants these privileges to `role`."""
        columns = sql.SQL(" ({})").format(listed(self.columns)) if self.columns else sql.SQL("")
        privileges = as_sql(", ".join(self.privileges).lower())
        return sql.SQL("grant {}{} on {} to {};\n").format(
            privileges, columns, self.table.identifier, sql.Identifier(role)
        )


def listed(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def on_outbox(outbox: OutboxTable) -> list[Right]:
    """Return the rights that `run` needs on the user's tables."""
    return [
        Right(outbox, ("SELECT",), READ),
        Right(outbox, ("UPDATE",), WRITTEN),
        Right(outbox.workflow, ("SELECT",), tuple(WORKFLOW_COLUMNS)),
    ]


def on_row_version(outbox: OutboxTable) -> Right:
    """Return the right to see that a row was updated. Without it `run` tries a row that the table refuses every hour.

    It is not required: a role that was granted its rights by an earlier version does not have it.
    """
    return Right(outbox, ("SELECT",), ("xmin",))


def on_ledger() -> list[Right]:
    """Return the rights that `run` needs on our own tables."""
    return [
        *(Right(Table("dispatcher", name), privileges) for name, privileges in LEDGER_PRIVILEGES.items()),
        Right(Table("dispatcher", "installation"), ("UPDATE",), ("restored_at", "timeline")),
    ]


def on_pruning() -> list[Right]:
    """Return the rights to prune the ledger. They are not required: without them the ledger only grows.

    A role that was granted its rights by an earlier version may not have them.
    """
    return [Right(Table("dispatcher", name), ("DELETE",)) for name in ("delivery", "recipient")]


def for_operator(outbox: OutboxTable) -> list[Right]:
    """Return the further rights that an operator's commands need."""
    return [Right(outbox, ("INSERT",), TESTED), Right(Table("dispatcher", "action"), ("SELECT", "INSERT"))]


def render_names(outbox: OutboxTable, role: str) -> Iterator[sql.Composed]:
    """Yield the statements that grant an operator's rights on columns that an outbox may lack."""
    for column, privileges in NAMED.items():
        block = as_sql(NAMES).format(
            outbox=sql.Literal(outbox.identifier.as_string()),
            column=sql.Literal(column),
            privileges=as_sql(", ".join(f"{each} ({column})" for each in privileges.split(", "))),
            table=outbox.identifier,
            role=sql.Identifier(role),
        )
        yield sql.SQL("do {};\n").format(sql.Literal(block.as_string()))


def render_grants(table_name: str, role: str, *, operator: bool = False) -> str:
    """Return the SQL that gives `role` the rights for `run`; with `operator`, for an operator's commands too.

    Raises ConfigurationError if the table's or the role's name is not possible.
    """
    outbox, name = parse_outbox_name(table_name), sql.Identifier(quoted_role(role))
    table = sql.Literal(outbox.identifier.as_string())
    connect_grants = as_sql(CONNECT_GRANTS).format(role=sql.Literal(role), outbox=table)
    parts = [
        as_sql(OPENING).format(),
        # A quoted string instead of $$, because a name could contain $$.
        sql.SQL("do {};\n").format(sql.Literal(connect_grants.as_string())),
        as_sql(SCHEMAS).format(sql.Identifier(outbox.schema), name),
        as_sql(CLAIM).format(),
        *(right.grant(role) for right in (*on_outbox(outbox), on_row_version(outbox))),
        as_sql(LEDGER_GRANTS).format(),
        *(right.grant(role) for right in (*on_ledger(), *on_pruning())),
    ]
    if operator:
        parts += [as_sql(OPERATOR_GRANTS).format(), *(right.grant(role) for right in for_operator(outbox))]
        parts += render_names(outbox, role)
    return "".join(part.as_string() for part in parts)


def quoted_role(role: str) -> str:
    """Return the role's name. Raises ConfigurationError if PostgreSQL would cut it: that could name another role."""
    if not role or "\0" in role or len(role.encode()) > MAX_NAME_BYTES:
        raise ConfigurationError(f"{role!r} cannot be a role's name: PostgreSQL allows 1 to {MAX_NAME_BYTES} bytes")
    return role


async def require_rights(connection: Connection, outbox: OutboxTable, oid: int) -> None:
    """Raise `ConfigurationError` if this session's role lacks a right. The error names each one.

    `oid` is the outbox's.
    """
    if rows := await find_lacking(connection, [*on_outbox(outbox), *on_ledger()], oid):
        raise ConfigurationError(f"role {rows[0][0]} needs {', '.join(describe_missing(rows))}: {remedy(rows)}")


async def find_lacking(connection: Connection, rights: Iterable[Right], oid: int) -> list[tuple[object, ...]]:
    """Return what this session's role lacks of `rights`, as LACKING finds it. `oid` is the outbox's."""
    wanted = [each for right in rights for each in right.each()]
    schemas, tables, privileges, columns = map(list, zip(*wanted, strict=True))
    cursor = await connection.execute(
        LACKING,
        {"schemas": schemas, "tables": tables, "privileges": privileges, "columns": columns, "outbox": oid},
    )
    return await cursor.fetchall()


def remedy(rows: Sequence[Sequence[object]]) -> str:
    """Return who has to do what about the rights that `find_lacking` found."""
    return f"as the tables' owner run the SQL that dispatcher db sql grants --role {rows[0][0]} prints"


def describe_missing(rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the rights that LACKING found as parts of a sentence; the columns of a table are joined."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, privilege, column, target in rows:
        found.setdefault((str(privilege), str(target)), []).extend([] if column is None else [str(column)])
    columns = {key: f" ({', '.join(names)})" if names else "" for key, names in found.items()}
    return [f"{privilege}{columns[privilege, target]} on {target}" for privilege, target in found]
