"""The rights that the role of `dispatcher run` needs: as SQL for whoever grants them, and as a look at its start.

One list serves both, so nothing is asked for that is not granted. Columns that we only write cannot be read, what we
only read cannot be written, and nothing of the outbox can be inserted or deleted. What a person who operates it needs
besides is granted apart.
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

# What an operator's commands use besides. `name` and `retraction_reason` are XNovu's, and may be missing elsewhere.
TESTED = ("publish_status", "notification_workflow_id", "enterprise_id", "payload", "recipients")
NAMED = {"name": "select, insert", "retraction_reason": "update"}

OPENING = """\
-- The least that the role of `dispatcher run` needs. Run this after `dispatcher db install`, as the tables' owner;
-- again does no harm. LISTEN and NOTIFY need no right, and neither do the triggers.
set search_path = pg_catalog, pg_temp;

-- To come in, and to find the tables. The type of notification_status may live in another schema.
"""
CONNECT_GRANTS = """
declare
  place text;
begin
  if not has_database_privilege({role}, current_database(), 'CONNECT') then
    execute format('grant connect on database %I to %I', current_database(), {role});
  end if;
  for place in
    select n.nspname from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    join pg_namespace n on n.oid = t.typnamespace
    where a.attrelid = {outbox}::regclass and a.attname = 'notification_status'
      and not has_schema_privilege({role}, n.oid, 'USAGE')
  loop
    execute format('grant usage on schema %I to %I', place, {role});
  end loop;
end
"""
SCHEMAS = "grant usage on schema {}, dispatcher to {};\n"
CLAIM = """
-- To read a notification and its Novu workflow, and to write what became of it.
"""
LEDGER_GRANTS = """
-- To keep the ledger. Only nodes that are gone are ever deleted.
"""

OPERATOR_GRANTS = """
-- For the person who operates it: to note every action, to write a test, to name rows and give reasons.
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
        """Yield schema, table, privilege and column, one by one."""
        for privilege in self.privileges:
            for column in self.columns or (None,):
                yield self.table.schema, self.table.name, privilege, column

    def grant(self, role: str) -> sql.Composed:
        """Return the statement that grants it."""
        columns = sql.SQL(" ({})").format(listed(self.columns)) if self.columns else sql.SQL("")
        privileges = as_sql(", ".join(self.privileges).lower())
        return sql.SQL("grant {}{} on {} to {};\n").format(
            privileges, columns, self.table.identifier, sql.Identifier(role)
        )


def listed(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def on_outbox(outbox: OutboxTable) -> list[Right]:
    """Return what is needed on the user's tables."""
    return [
        Right(outbox, ("SELECT",), READ),
        Right(outbox, ("UPDATE",), WRITTEN),
        Right(outbox.workflow, ("SELECT",), tuple(WORKFLOW_COLUMNS)),
    ]


def on_ledger() -> list[Right]:
    """Return what is needed on our own tables."""
    return [Right(Table("dispatcher", name), privileges) for name, privileges in LEDGER_PRIVILEGES.items()]


def for_operator(outbox: OutboxTable) -> list[Right]:
    """Return what the commands of an operator need besides."""
    return [Right(outbox, ("INSERT",), TESTED), Right(Table("dispatcher", "action"), ("SELECT", "INSERT"))]


def render_names(outbox: OutboxTable, role: str) -> Iterator[sql.Composed]:
    """Yield the statements that grant what is needed on columns that need not be there."""
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
    """Return the SQL that gives `role` what it needs, and nothing else; for an operator what commands need too."""
    outbox, name = parse_outbox_name(table_name), sql.Identifier(quoted_role(role))
    table = sql.Literal(outbox.identifier.as_string())
    places = as_sql(CONNECT_GRANTS).format(role=sql.Literal(role), outbox=table)
    parts = [
        as_sql(OPENING).format(),
        # A string and not $$: no name can end it.
        sql.SQL("do {};\n").format(sql.Literal(places.as_string())),
        as_sql(SCHEMAS).format(sql.Identifier(outbox.schema), name),
        as_sql(CLAIM).format(),
        *(right.grant(role) for right in on_outbox(outbox)),
        as_sql(LEDGER_GRANTS).format(),
        *(right.grant(role) for right in on_ledger()),
    ]
    if operator:
        parts += [as_sql(OPERATOR_GRANTS).format(), *(right.grant(role) for right in for_operator(outbox))]
        parts += render_names(outbox, role)
    return "".join(part.as_string() for part in parts)


def quoted_role(role: str) -> str:
    """Return the role's name; ConfigurationError when PostgreSQL would cut it, and so mean another role."""
    if not role or "\0" in role or len(role.encode()) > MAX_NAME_BYTES:
        raise ConfigurationError(f"{role!r} cannot be a role: PostgreSQL keeps 1 to {MAX_NAME_BYTES} bytes")
    return role


async def require_rights(connection: Connection, outbox: OutboxTable, oid: int) -> None:
    """Raise `ConfigurationError` naming every right that this session's role lacks."""
    wanted = [each for right in (*on_outbox(outbox), *on_ledger()) for each in right.each()]
    schemas, tables, privileges, columns = map(list, zip(*wanted, strict=True))
    cursor = await connection.execute(
        LACKING,
        {"schemas": schemas, "tables": tables, "privileges": privileges, "columns": columns, "outbox": oid},
    )
    rows = await cursor.fetchall()
    if rows:
        role = str(rows[0][0])
        raise ConfigurationError(
            f"role {role} needs {', '.join(describe_missing(rows))}: as the tables' owner run what"
            f" dispatcher db sql grants --role {role} prints"
        )


def describe_missing(rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the rights of LACKING for a sentence, a table's columns together."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, privilege, column, place in rows:
        found.setdefault((str(privilege), str(place)), []).extend([] if column is None else [str(column)])
    columns = {key: f" ({', '.join(names)})" if names else "" for key, names in found.items()}
    return [f"{privilege}{columns[privilege, place]} on {place}" for privilege, place in found]
