"""Which statements put which differences right: pure, so that what is shown and what is run are one thing."""

from collections.abc import Sequence

from psycopg import sql

from dispatcher.config.table_names import OutboxTable
from dispatcher.install.files import File, Part, as_sql, index_statements, installer_files
from dispatcher.install.options import Difference

Differences = Sequence[Difference]

RECORD = """
insert into dispatcher.migration (name, checksum) values ({name}, {checksum})
on conflict (name) do update set checksum = excluded.checksum, applied_at = clock_timestamp();
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


def files(part: Part) -> list[File]:
    """Return the files of a part in their order."""
    return [file for file in installer_files() if file.part is part]


def transaction(outbox: OutboxTable, found: Differences | None = None) -> list[sql.Composed]:
    """Return what has to run in one transaction, everything if no differences are given.

    Ledger files run together, they are cheap and build on one another; triggers only when they differ, because
    replacing one makes writers wait.
    """
    kinds = None if found is None else {(each.kind, part_of(each)) for each in found}
    statements: list[sql.Composed] = []
    if kinds is None or any(part is Part.LEDGER for _, part in kinds):
        statements += [file.render(outbox) for file in files(Part.LEDGER)]
        statements += [recording(file) for file in files(Part.LEDGER)]
    if kinds is None or ("trigger", Part.TRIGGERS) in kinds:
        statements += [file.render(outbox) for file in files(Part.TRIGGERS)]
    if kinds is None or any(part is Part.TRIGGERS for _, part in kinds):
        statements += [recording(file) for file in files(Part.TRIGGERS)]
    return statements


def index_work(outbox: OutboxTable, found: Differences | None = None) -> dict[str, sql.Composed]:
    """Return what has to run one by one outside a transaction, with words for it: drop what is wrong, then build.

    Without differences everything is built, and what is there is kept.
    """
    problems = {each.name: each.problem for each in found or () if each.kind == "outbox index"}
    work: dict[str, sql.Composed] = {}
    for name, build in index_statements(outbox).items():
        if problems.get(name, "missing") != "missing":
            work[f"dropping index {name}, which is {problems[name]}"] = dropping(outbox, name)
        if found is None or name in problems:
            work[f"building index {name}"] = build
    if found is None or any(part_of(each) is Part.INDEXES for each in found):
        work |= {f"recording {file.name}": recording(file) for file in files(Part.INDEXES)}
    return work


def part_of(difference: Difference) -> Part:
    """Return the part of an installation that puts `difference` right."""
    if difference.kind == "file":
        return next(file.part for file in installer_files() if file.name == difference.name)
    return {"trigger": Part.TRIGGERS, "outbox index": Part.INDEXES}.get(difference.kind, Part.LEDGER)


def dropping(outbox: OutboxTable, index: str) -> sql.Composed:
    return sql.SQL("drop index concurrently if exists {};").format(sql.Identifier(outbox.schema, index))


def recording(file: File) -> sql.Composed:
    return as_sql(RECORD).format(name=sql.Literal(file.name), checksum=sql.Literal(file.checksum))


def trigger_removal(outbox: OutboxTable) -> list[sql.Composed]:
    """Return what silences the outbox: the triggers, then the function that both call."""
    drop = sql.SQL("drop trigger if exists {} on {};")
    names = (sql.Identifier("dispatcher_insert"), sql.Identifier("dispatcher_update"))
    statements = [drop.format(name, outbox.identifier) for name in names]
    return [*statements, as_sql("drop function if exists dispatcher.ring_v1();").format()]


def ledger_removal(*, ledger: bool) -> list[sql.Composed]:
    """Return what drops the ledger, or what makes it say that only tables are left."""
    if ledger:
        return [as_sql("drop schema if exists dispatcher cascade;").format()]
    gone = [
        sql.Literal(file.name)
        for file in installer_files()
        if "dispatcher.ring" in file.text or file.part is Part.INDEXES
    ]
    return [as_sql(FORGET).format(sql.SQL(", ").join(gone))]


def index_removal(outbox: OutboxTable) -> list[sql.Composed]:
    return [dropping(outbox, name) for name in index_statements(outbox)]
