"""Decides which statements repair which differences. `db install` runs them, and `db sql` prints the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from dispatcher.config.table_names import OutboxTable
from dispatcher.install.files import (
    File,
    Part,
    as_sql,
    index_statements,
    installer_files,
    superseded_indexes,
)
from dispatcher.install.options import Difference
from dispatcher.postgres.installation import MARKS, SYSTEM_MARK
from dispatcher.postgres.statements import load_query

Differences = Sequence[Difference]

RECORD = """
insert into dispatcher.migration (name, checksum) values ({name}, {checksum})
on conflict (name) do update set checksum = excluded.checksum, applied_at = clock_timestamp();
"""
RECORD_PLACE = """
declare
  other text;
  marks jsonb;
begin
  {other_outbox} into other;
  if other is not null then
    raise exception 'the ledger in schema dispatcher belongs to the outbox %, not to %', other, {relation};
  end if;
  update dispatcher.installation i set outbox = found.name, outbox_oid = found.oid
  from (
    select format('%I.%I', n.nspname, c.relname) as name, c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = {relation}::regclass
  ) found
  where i.outbox is distinct from found.name or i.outbox_oid is distinct from found.oid;
  if exists (select from dispatcher.installation where bound_to is null) then
    marks := {marks};
    begin
      marks := marks || jsonb_build_object('system', ({system_mark}));
    exception when others then
      null;  -- some providers do not let us read it
    end;
    update dispatcher.installation set bound_to = marks;
  end if;
end
"""
FORGET = """
do $$
begin
  if to_regclass('dispatcher.migration') is not null then
    delete from dispatcher.migration where name in ({});
  end if;
end
$$;
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """The work to do: the parts to run again, and the parts whose files are recorded again as applied."""

    ledger: bool
    triggers: bool
    trigger_records: bool
    index_records: bool


EVERYTHING = Plan(ledger=True, triggers=True, trigger_records=True, index_records=True)


def plan_for(found: Differences | None) -> Plan:
    """Return what repairs the differences `found`; everything if None.

    Ledger files run together: they are cheap and build on one another. Triggers run only if one differs, because
    replacing a trigger makes writers wait. If only the record of their file differs, the record is enough.
    """
    if found is None:
        return EVERYTHING
    parts = {part_of(each) for each in found}
    return Plan(
        ledger=Part.LEDGER in parts,
        triggers=any(each.kind == "trigger" for each in found),
        trigger_records=Part.TRIGGERS in parts,
        index_records=Part.INDEXES in parts,
    )


def files(part: Part) -> list[File]:
    """Return the files of a part, in the order in which they run."""
    return [file for file in installer_files() if file.part is part]


def transaction(outbox: OutboxTable, found: Differences | None = None) -> list[sql.Composed]:
    """Return the statements to run in one transaction, to repair `found`; all of them if None."""
    plan = plan_for(found)
    statements: list[sql.Composed] = []
    if plan.ledger:
        statements += [file.render(outbox) for file in files(Part.LEDGER)]
        statements += [recording(file) for file in files(Part.LEDGER)]
        statements.append(place_recording(outbox))
    if plan.triggers:
        statements += [file.render(outbox) for file in files(Part.TRIGGERS)]
    if plan.trigger_records:
        statements += [recording(file) for file in files(Part.TRIGGERS)]
    return statements


def index_work(outbox: OutboxTable, found: Differences | None = None) -> dict[str, sql.Composed]:
    """Return the statements to run one by one outside a transaction, each by a line of progress for it.

    A wrong index is dropped and then built. If `found` is None, every index is built that does not exist. A superseded
    index is dropped last, so that the previous version has an index until then.
    """
    problems = {each.name: each.problem for each in found or () if each.kind == "outbox index"}
    work: dict[str, sql.Composed] = {}
    for name, build in index_statements(outbox).items():
        if problems.get(name, "missing") != "missing":
            work[f"dropping index {name}, which is {problems[name]}"] = dropping(outbox, name)
        if found is None or name in problems:
            work[f"building index {name}"] = build
    for name in superseded_indexes(outbox):
        if found is None or name in problems:
            work[f"dropping index {name}, which is superseded"] = dropping(outbox, name)
    if plan_for(found).index_records:
        work |= {f"recording {file.name}": recording(file) for file in files(Part.INDEXES)}
    return work


def part_of(difference: Difference) -> Part:
    """Return the part of an installation that repairs `difference`."""
    if difference.kind == "file":
        return next(file.part for file in installer_files() if file.name == difference.name)
    return {"trigger": Part.TRIGGERS, "outbox index": Part.INDEXES}.get(difference.kind, Part.LEDGER)


def dropping(outbox: OutboxTable, index: str) -> sql.Composed:
    return sql.SQL("drop index concurrently if exists {};").format(sql.Identifier(outbox.schema, index))


def recording(file: File) -> sql.Composed:
    return as_sql(RECORD).format(name=sql.Literal(file.name), checksum=sql.Literal(file.checksum))


def place_recording(outbox: OutboxTable) -> sql.Composed:
    """Return the statement that records the installation's outbox, and its database unless one is recorded.

    It fails if the installation has another outbox.
    """
    relation = sql.Literal(str(outbox))
    block = as_sql(RECORD_PLACE).format(
        marks=as_sql(f"({MARKS})"),
        system_mark=as_sql(SYSTEM_MARK),
        other_outbox=load_query("other_outbox", relation=relation),
        relation=relation,
    )
    return sql.SQL("do {};").format(sql.Literal(block.as_string()))


def trigger_removal(outbox: OutboxTable, *, function: bool = True) -> list[sql.Composed]:
    """Return the statements that drop the triggers, and then, with `function`, their functions."""
    drop = sql.SQL("drop trigger if exists {} on {};")
    names = (sql.Identifier("dispatcher_insert"), sql.Identifier("dispatcher_update"))
    statements = [drop.format(name, outbox.identifier) for name in names]
    return [
        *statements,
        *([as_sql("drop function if exists dispatcher.ring_v1(), dispatcher.ring_v2();").format()] if function else []),
    ]


def ledger_removal(*, ledger: bool) -> list[sql.Composed]:
    """Return the statements that drop our schema; unless `ledger`, those that record the other parts as not applied."""
    if ledger:
        return [as_sql("drop schema if exists dispatcher cascade;").format()]
    removed = [
        sql.Literal(file.name)
        for file in installer_files()
        if "dispatcher.ring" in file.text or file.part is Part.INDEXES
    ]
    return [as_sql(FORGET).format(sql.SQL(", ").join(removed))]


def index_removal(outbox: OutboxTable) -> list[sql.Composed]:
    return [dropping(outbox, name) for name in (*index_statements(outbox), *superseded_indexes(outbox))]
