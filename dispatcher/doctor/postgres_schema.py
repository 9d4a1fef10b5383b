"""What lies in the database: the outbox and what we may do with it, what we installed beside it, and who is at work."""

import time

from psycopg import errors

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.doctor.postgres_connection import fetch_rows, transaction
from dispatcher.doctor.runner import Context, Finding, abbreviated, failed, passed, skipped, warned
from dispatcher.install import catalogue, grants, preflight
from dispatcher.install.files import index_statements
from dispatcher.install.rights import lacking_rights
from dispatcher.postgres.notify_queue import QUEUE_USAGE, QUEUE_USAGE_LIMIT
from dispatcher.postgres.operator_queries import NODE_TTL
from dispatcher.postgres.session import RUNTIME_TABLES, missing_tables

INSTALL = "as the tables' owner run dispatcher db install"
UPGRADE = "as the tables' owner run dispatcher db upgrade"
MAX_CLOCK_SKEW_SECONDS = 5.0

NODES = """
select count(*), count(*) filter (where mode = 'POLLING'), string_agg(distinct version, ', ')
from dispatcher.node where seen_at > clock_timestamp() - %(alive)s::interval
"""


def table_of(context: Context) -> OutboxTable:
    """Return the outbox; ConfigurationError when its name cannot be one."""
    return parse_outbox_name(context.settings.outbox)


async def outbox(context: Context) -> Finding:
    """Look whether the table is there and has the columns that we use, and the one of Novu workflows beside it."""
    table = table_of(context)
    async with transaction(context) as connection:
        context.outbox_oid = await preflight.check_table(connection, table, "set DISPATCHER_OUTBOX, or create it")
        preflight.check_columns(
            table, await preflight.columns(connection, context.outbox_oid), preflight.OUTBOX_COLUMNS
        )
        beside = await preflight.check_table(connection, table.workflow, "it has to stand beside the outbox")
        preflight.check_columns(table.workflow, await preflight.columns(connection, beside), preflight.WORKFLOW_COLUMNS)
    return passed(f"{table} and {table.workflow.name} have what is needed")


async def row_security(context: Context) -> Finding:
    """Look whether a policy hides rows from us."""
    async with transaction(context) as connection:
        await preflight.check_row_security(connection, table_of(context))
    return passed("every row is visible")


async def rights(context: Context) -> Finding:
    """Look whether our role may do what `dispatcher run` does."""
    async with transaction(context) as connection:
        await grants.require_rights(connection, table_of(context), context.outbox_oid)
    return passed(f"role {context.connection.info.user} may do what dispatcher run does")


async def ledger(context: Context) -> Finding:
    """Look for our own tables."""
    async with transaction(context) as connection:
        missing = await missing_tables(connection)
    if missing:
        return failed(f"schema dispatcher lacks {', '.join(missing)}", INSTALL)
    return passed(f"tables {', '.join(RUNTIME_TABLES)}")


async def definitions(context: Context) -> Finding:
    """Compare tables, functions, triggers and indexes with those of this version. That needs more rights than `run`."""
    table = table_of(context)
    remedy = "run dispatcher db status as the tables' owner"
    try:
        async with transaction(context) as connection:
            lacking = await lacking_rights(connection, table, context.outbox_oid, indexes=True)
            if lacking.to_look:
                return skipped(f"because role {lacking.role} lacks {', '.join(lacking.to_look)}", remedy)
            found = await catalogue.differences(connection, table, context.outbox_oid, indexes=True)
    except errors.InsufficientPrivilege as error:
        return skipped(f"because {error.diag.message_primary}", remedy)
    newer = any(each.problem == "newer" for each in found)
    # Whether triggers and indexes are there is looked at with fewer rights, next.
    changed = [each for each in found if each.kind not in catalogue.OF_OUTBOX or each.problem == "changed"]
    if newer:
        return warned(f"a newer version has installed this: {abbreviated(changed)}", "update this one")
    return failed(abbreviated(changed), UPGRADE) if changed else passed("as this version has them")


async def triggers(context: Context) -> Finding:
    """Look whether commits can wake us."""
    async with transaction(context) as connection:
        silent = await catalogue.missing_triggers(connection, context.outbox_oid)
    wrong = [f"{name} is {state}" for name, state in silent.items()]
    if wrong and context.settings.notify_mode == "off":
        return passed(f"{', '.join(wrong)}, as DISPATCHER_NOTIFY_MODE=off may have it")
    if wrong:
        enable = "; one that somebody disabled: alter table … enable trigger" if "disabled" in silent.values() else ""
        return failed(f"{', '.join(wrong)}: commits wake nobody, rows wait for the sweep", UPGRADE + enable)
    return passed(f"{' and '.join(catalogue.TRIGGERS)} are there and enabled")


async def indexes(context: Context) -> Finding:
    """Look whether sweeps and claims have their indexes."""
    states = {
        name: state for (kind, name), (_, state) in (await live_objects(context)).items() if kind.endswith("index")
    }
    broken = [name for name, state in states.items() if state]
    if broken:
        return failed(f"not valid: {', '.join(broken)}", f"{UPGRADE}, which builds them anew and blocks nobody")
    wanted = index_statements(table_of(context))
    missing = [name for name in wanted if name not in states]
    if missing:
        return warned(
            f"missing: {', '.join(missing)}; sweeps scan the table", f"{UPGRADE}, which builds them and blocks nobody"
        )
    return passed(f"{len(wanted)} on the outbox, all valid")


async def live_objects(context: Context) -> catalogue.Objects:
    """Return what the catalogue, which every role may read, knows of ours."""
    [[schema]] = await fetch_rows(context, "select to_regnamespace('dispatcher')::oid::bigint")
    async with transaction(context) as connection:
        return await catalogue.objects(connection, context.outbox_oid, schema)


async def queue(context: Context) -> Finding:
    """Look how full PostgreSQL's queue of notifications is: nobody who notifies could commit while it is full."""
    [[usage, blocking]] = await fetch_rows(context, QUEUE_USAGE)
    if usage < QUEUE_USAGE_LIMIT:
        return passed(f"{usage:.1%} full")
    return warned(
        f"{usage:.1%} full", f"end the session that listens and keeps its transaction open: perhaps pid {blocking}"
    )


async def clock(context: Context) -> Finding:
    """Compare the clocks. Ours decides nothing, but logs and Novu's times are read side by side with the database's."""
    before = time.time()
    [[theirs]] = await fetch_rows(context, "select extract(epoch from clock_timestamp())::float8")
    after = time.time()
    ahead = theirs - (before + after) / 2
    value = f"PostgreSQL's is {abs(ahead):.3f} s {'ahead of' if ahead >= 0 else 'behind'} ours"
    if abs(ahead) > MAX_CLOCK_SKEW_SECONDS + (after - before):
        return warned(value, "let both machines follow a time server (NTP)")
    return passed(value)


async def nodes(context: Context) -> Finding:
    """Look who is at work, by what they write down at every sweep."""
    [[count, polling, versions]] = await fetch_rows(context, NODES, alive=NODE_TTL)
    if not count:
        return warned("no dispatcher is running", "start one: dispatcher run")
    if polling and context.settings.notify_mode != "off":
        return warned(
            f"{count} live ({versions}), {polling} of them polling",
            "see the check notify, and their logs: not_listening",
        )
    return passed(f"{count} live ({versions})")
