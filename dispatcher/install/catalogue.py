"""Compares the live objects with those that this version expects, one by one.

The expected objects are not listed a second time: the files of sql/ run against a temporary copy of the outbox, in a
transaction that is rolled back, and the server describes both sides. No lock is taken that makes a writer wait.
"""

import re
from typing import NamedTuple

from psycopg import sql

from dispatcher.config.table_names import OutboxTable, Table
from dispatcher.install.files import File, Part, as_sql, installer_files, superseded_indexes
from dispatcher.install.options import Difference
from dispatcher.install.session import Connection, one_value, run

COPY = Table("pg_temp", "dispatcher_outbox_copy")

OBJECTS = """
with ledger as (
  select oid, relname from pg_class where relnamespace = %(ledger)s and relkind = 'r' and oid <> %(outbox)s
)
select 'function', 'dispatcher.' || proname, pg_get_functiondef(oid), ''
from pg_proc where pronamespace = %(ledger)s and prokind = 'f'
union all
select 'table', 'dispatcher.' || relname, '', '' from ledger
union all
select 'column', format('dispatcher.%%s.%%s', l.relname, a.attname),
  concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
            nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, ''), pg_get_expr(d.adbin, d.adrelid)), ''
from ledger as l
join pg_attribute as a on a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
union all
select 'constraint', format('dispatcher.%%s.%%s', l.relname, c.conname), pg_get_constraintdef(c.oid), ''
from ledger as l join pg_constraint as c on c.conrelid = l.oid and c.contype <> 'n'
union all
select
  case when i.indrelid = %(outbox)s then 'outbox index' else 'index' end,
  case when i.indrelid = %(outbox)s then '' else 'dispatcher.' end || c.relname,
  pg_get_indexdef(i.indexrelid), case when i.indisvalid then '' else 'invalid' end
from pg_index as i join pg_class as c on c.oid = i.indexrelid
where (i.indrelid = %(outbox)s or i.indrelid in (select oid from ledger))
  and not exists (select from pg_constraint where conindid = i.indexrelid)
union all
select 'trigger', tgname, pg_get_triggerdef(oid), case when tgenabled in ('O', 'A') then '' else 'disabled' end
from pg_trigger where tgrelid = %(outbox)s and not tgisinternal
"""


class Definition(NamedTuple):
    """The server's text for an object, and its state: empty if it works, else `invalid` or `disabled`."""

    text: str
    state: str


TRIGGERS = ("dispatcher_insert", "dispatcher_update")
OF_OUTBOX = ("trigger", "outbox index")
ORDER = ("schema", "table", "column", "constraint", "index", "function", "trigger", "outbox index", "file")
Objects = dict[tuple[str, str], Definition]


async def missing_triggers(connection: Connection, oid: int) -> dict[str, str]:
    """Return the outbox's triggers that do not fire, each with the reason: missing or disabled. Needs no right."""
    live = await objects(connection, oid, None)
    states = {name: definition.state for (kind, name), definition in live.items() if kind == "trigger"}
    return {name: state for name in TRIGGERS if (state := states.get(name, "missing"))}


async def differences(connection: Connection, outbox: OutboxTable, oid: int, *, indexes: bool) -> list[Difference]:
    """Return every object or file that differs, sorted by ORDER and name.

    Its problem is missing, disabled, invalid, changed, superseded or newer. `oid`: the outbox's. `indexes`: whether the
    outbox's indexes are expected.
    """
    schema = await one_value(connection, "select oid::bigint from pg_namespace where nspname = 'dispatcher'")
    live = await objects(connection, oid, schema)
    expected = await expected_objects(connection, outbox, indexes=indexes)
    found: list[Difference] = []
    if schema is None:
        found.append(Difference("schema", "dispatcher", "missing"))
        expected = {key: definition for key, definition in expected.items() if key[0] in OF_OUTBOX}
    found += [problem for key, wanted in expected.items() if (problem := difference_of(key, wanted, live))]
    found += [
        Difference("outbox index", name, "superseded")
        for name in superseded_indexes(outbox)
        if indexes and ("outbox index", name) in live
    ]
    found += await unapplied_files(connection, live, indexes=indexes)
    newer = any(each.problem == "newer" for each in found)
    # A newer version may change an object on purpose. A missing or disabled object is a fault under any version.
    mine = [each for each in found if not (newer and each.problem == "changed")]
    return sorted(mine, key=lambda each: (ORDER.index(each.kind), each.name))


def difference_of(key: tuple[str, str], wanted: Definition, live: Objects) -> Difference | None:
    """Return how one live object differs from `wanted`, or None if it does not."""
    kind, name = key
    there = live.get(key)
    if there is None:
        parent = ("table", name.rsplit(".", 1)[0])
        inside_missing_table = kind in {"column", "constraint"} and parent not in live
        return None if inside_missing_table else Difference(kind, name, "missing")
    if there.text != wanted.text:
        detail = f"is {there.text}, expected {wanted.text}" if kind in {"column", "constraint"} else ""
        return Difference(kind, name, "changed", detail)
    return Difference(kind, name, there.state) if there.state else None


async def objects(connection: Connection, outbox: int, ledger: object) -> Objects:
    """Return our objects as the server describes them. `outbox`: the table's oid; `ledger`: our schema's, if any."""
    names = await one_value(
        connection,
        "select format('%%I.%%I', n.nspname, c.relname)"
        " from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = %s",
        (outbox,),
    )
    cursor = await connection.execute(OBJECTS, {"outbox": outbox, "ledger": ledger})
    rows = await cursor.fetchall()
    return {
        (str(kind), str(name)): Definition(comparable(str(text), str(names)), str(state))
        for kind, name, text, state in rows
    }


def comparable(text: str, outbox: str) -> str:
    """Return a definition without the names that differ between the live and the expected object."""
    for name in (outbox, str(COPY)):
        text = text.replace(f" ON {name} ", " ON the outbox ")
    return re.sub(r"\bpg_temp(_\d+)?\.", "dispatcher.", text)


async def expected_objects(connection: Connection, outbox: OutboxTable, *, indexes: bool) -> Objects:
    """Return the objects that an installation would create, as the server describes them. Changes nothing."""
    async with connection.transaction(force_rollback=True):
        await run(
            connection,
            sql.SQL("create temporary table {} (like {})").format(sql.Identifier(COPY.name), outbox.identifier),
        )
        for file in installer_files()[1:]:  # the first one creates the schema; here pg_temp replaces it
            if indexes or file.part is not Part.INDEXES:
                await run(connection, in_expected_schema(file).render(outbox, table=COPY, concurrently=False))
        oid = await one_value(connection, "select 'pg_temp.dispatcher_outbox_copy'::regclass::oid::bigint")
        schema = await one_value(connection, "select pg_my_temp_schema()::bigint")
        return await objects(connection, int(str(oid)), schema)


def in_expected_schema(file: File) -> File:
    """Return the file with our schema replaced by pg_temp. Names of settings, which are in quotes, stay."""
    return File(file.name, re.sub(r"(?<!['\w.])dispatcher\.", "pg_temp.", file.text))


async def applied_files(connection: Connection) -> dict[str, str]:
    """Return the names of the applied files with their checksums."""
    if await one_value(connection, "select to_regclass('dispatcher.migration')::text") is None:
        return {}
    rows = await (await connection.execute(as_sql("select name, checksum from dispatcher.migration"))).fetchall()
    return {str(name): str(checksum) for name, checksum in rows}


async def unapplied_files(connection: Connection, live: Objects, *, indexes: bool) -> list[Difference]:
    """Return the files that were not applied, were applied in another version, or are unknown to this version."""
    if ("table", "dispatcher.migration") not in live:
        return []
    known = {file.name: file for file in installer_files()}
    there = await applied_files(connection)
    found = [Difference("file", name, "newer", "not known to this version") for name in there if name not in known]
    for name, file in known.items():
        if name not in there:
            if indexes or file.part is not Part.INDEXES:
                found.append(Difference("file", name, "missing", "not recorded as applied"))
        elif there[name] != file.checksum:
            found.append(Difference("file", name, "changed", "applied in another version"))
    return found
