"""Checks of the database: the outbox and our rights on it, our own schema, and the running nodes."""

import time

from psycopg import errors, sql

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.doctor.postgres_connection import fetch_rows, transaction
from dispatcher.doctor.runner import Context, Finding, abbreviated, failed, passed, skipped, warned
from dispatcher.install import catalogue, grants, preflight
from dispatcher.install.files import index_statements
from dispatcher.install.ledger_preflight import check_ledger
from dispatcher.install.rights import lacking_rights
from dispatcher.postgres.installation import require_own_database, require_own_outbox
from dispatcher.postgres.notify_queue import QUEUE_USAGE, QUEUE_USAGE_LIMIT
from dispatcher.postgres.operator_queries import NODE_TTL
from dispatcher.postgres.session import RUNTIME_TABLES, missing_tables
from dispatcher.postgres.statements import REFUSED

INSTALL = "as the tables' owner run dispatcher db install"
UPGRADE = "as the tables' owner run dispatcher db upgrade"
MAX_CLOCK_SKEW_SECONDS = 5.0

NODE_COUNTS = """
select count(*), count(*) filter (where mode = 'POLLING'), string_agg(distinct version, ', ')
from dispatcher.node where seen_at > clock_timestamp() - %(alive)s::interval
"""

REFUSED_ROWS = """
select n.id, d.last_error, count(*) over () from dispatcher.delivery d join {} n on n.id = d.notification_id
where {} order by n.id limit 3
"""

FOREIGN_STATUSES = """
select count(*), (array_agg(notification_id order by notification_id desc))[1:5]
from dispatcher.delivery where status_put_back_in = generation
"""


def table_of(context: Context) -> OutboxTable:
    """Return the outbox; ConfigurationError if its name is not valid."""
    return parse_outbox_name(context.settings.outbox)


async def outbox(context: Context) -> Finding:
    """Check that the outbox and its workflow table exist, have the columns that we use, and belong to the ledger."""
    table = table_of(context)
    async with transaction(context) as connection:
        context.outbox_oid = await preflight.check_table(connection, table, "set DISPATCHER_OUTBOX, or create it")
        preflight.check_columns(
            table, await preflight.columns(connection, context.outbox_oid), preflight.OUTBOX_COLUMNS
        )
        workflow_oid = await preflight.check_table(connection, table.workflow, "it has to be in the outbox's schema")
        preflight.check_columns(
            table.workflow, await preflight.columns(connection, workflow_oid), preflight.WORKFLOW_COLUMNS
        )
        await require_own_outbox(connection, str(table))
    return passed(f"{table} and {table.workflow.name} have the columns that are needed")


async def row_security(context: Context) -> Finding:
    """Check that no row-level security policy hides rows from our role."""
    async with transaction(context) as connection:
        await preflight.check_row_security(connection, table_of(context))
    return passed("every row is visible")


async def rights(context: Context) -> Finding:
    """Check that our role has the rights that `dispatcher run` needs."""
    async with transaction(context) as connection:
        await grants.require_rights(connection, table_of(context), context.outbox_oid)
        lacking = await grants.find_lacking(connection, grants.on_pruning(), context.outbox_oid)
    if lacking and context.settings.ledger_retention is not None:
        missing = ", ".join(grants.describe_missing(lacking))
        return warned(f"the ledger is not pruned: role {lacking[0][0]} needs {missing}", grants.remedy(lacking))
    return passed(f"role {context.connection.info.user} has the rights that dispatcher run needs")


async def ledger(context: Context) -> Finding:
    """Check that our own tables exist, and that they were made for this database."""
    async with transaction(context) as connection:
        await check_ledger(connection)
        missing = await missing_tables(connection)
        if missing:
            return failed(f"schema dispatcher lacks {', '.join(missing)}", INSTALL)
        await require_own_database(connection, context.settings.installation)
    return passed(f"tables {', '.join(RUNTIME_TABLES)}")


async def definitions(context: Context) -> Finding:
    """Check tables, functions, triggers and indexes against this version. This needs more rights than `run` does."""
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
    # The next checks report missing triggers and indexes, because they need fewer rights.
    changed = [each for each in found if each.kind not in catalogue.OF_OUTBOX or each.problem == "changed"]
    if newer:
        return warned(f"installed by a newer version: {abbreviated(changed)}", "update this dispatcher")
    return failed(abbreviated(changed), UPGRADE) if changed else passed("equal to those of this version")


async def refused_rows(context: Context) -> Finding:
    """Check that no rule of the outbox's table, such as a constraint or a trigger, refuses our write to a row."""
    statement = sql.SQL(REFUSED_ROWS).format(table_of(context).identifier, REFUSED).as_string()
    try:
        rows = await fetch_rows(context, statement)
    except errors.UndefinedColumn as error:  # the ledger is older than this version
        return skipped(f"because {error.diag.message_primary}", UPGRADE)
    if not rows:
        return passed("the table has refused no row that is there now")
    words = "; ".join(f"row {notification_id} {reason}" for notification_id, reason, _ in rows)
    return warned(
        f"{rows[0][2]} refused: {words}",
        "correct the row or the rule, then dispatcher retry ID; dispatcher list --dead-letters shows all",
    )


async def triggers(context: Context) -> Finding:
    """Check that the triggers that send NOTIFY exist and are enabled."""
    async with transaction(context) as connection:
        missing = await catalogue.missing_triggers(connection, context.outbox_oid)
    wrong = [f"{name} is {state}" for name, state in missing.items()]
    if wrong and context.settings.notify_mode == "off":
        return passed(f"{', '.join(wrong)}, which DISPATCHER_NOTIFY_MODE=off allows")
    if wrong:
        enable = "; for a disabled one: alter table … enable trigger" if "disabled" in missing.values() else ""
        return failed(f"{', '.join(wrong)}: commits send no NOTIFY, rows wait for the sweep", UPGRADE + enable)
    return passed(f"{' and '.join(catalogue.TRIGGERS)} exist and are enabled")


async def indexes(context: Context) -> Finding:
    """Check that the indexes for sweeps and claims exist and are valid."""
    states = {
        name: state for (kind, name), (_, state) in (await live_objects(context)).items() if kind.endswith("index")
    }
    invalid = [name for name, state in states.items() if state]
    if invalid:
        return failed(f"not valid: {', '.join(invalid)}", f"{UPGRADE}, which rebuilds them without blocking writes")
    wanted = index_statements(table_of(context))
    missing = [name for name in wanted if name not in states]
    if missing:
        return warned(
            f"missing: {', '.join(missing)}; sweeps scan the table",
            f"{UPGRADE}, which builds them without blocking writes",
        )
    return passed(f"{len(wanted)} on the outbox, all valid")


async def live_objects(context: Context) -> catalogue.Objects:
    """Return our objects according to the system catalogue, which every role may read."""
    [[schema]] = await fetch_rows(context, "select to_regnamespace('dispatcher')::oid::bigint")
    async with transaction(context) as connection:
        return await catalogue.objects(connection, context.outbox_oid, schema)


async def queue(context: Context) -> Finding:
    """Check how full PostgreSQL's queue of NOTIFYs is. While it is full, a transaction with a NOTIFY cannot commit."""
    [[usage, blocking]] = await fetch_rows(context, QUEUE_USAGE)
    if usage < QUEUE_USAGE_LIMIT:
        return passed(f"{usage:.1%} full")
    return warned(
        f"{usage:.1%} full", f"end the listening session that keeps a transaction open: probably pid {blocking}"
    )


async def clock(context: Context) -> Finding:
    """Check this machine's clock against the database's.

    Ours decides nothing, but people compare the times in logs and at Novu with those in the database.
    """
    before = time.time()
    [[theirs]] = await fetch_rows(context, "select extract(epoch from clock_timestamp())::float8")
    after = time.time()
    ahead = theirs - (before + after) / 2
    value = f"PostgreSQL's is {abs(ahead):.3f} s {'ahead of' if ahead >= 0 else 'behind'} ours"
    if abs(ahead) > MAX_CLOCK_SKEW_SECONDS + (after - before):
        return warned(value, "let both machines follow a time server (NTP)")
    return passed(value)


async def nodes(context: Context) -> Finding:
    """Check for running nodes, by the table that each of them updates at every sweep."""
    [[count, polling, versions]] = await fetch_rows(context, NODE_COUNTS, alive=NODE_TTL)
    if not count:
        return warned("no dispatcher is running", "start one: dispatcher run")
    if polling and context.settings.notify_mode != "off":
        return warned(
            f"{count} live ({versions}), {polling} of them polling",
            "see the check notify, and the event not_listening in their logs",
        )
    return passed(f"{count} live ({versions})")


async def statuses(context: Context) -> Finding:
    """Check whether another program writes statuses over our outcomes."""
    try:
        [[count, newest]] = await fetch_rows(context, FOREIGN_STATUSES)
    except errors.UndefinedColumn:
        return skipped("the ledger is of an earlier version", UPGRADE)
    if count:
        return warned(
            f"another program wrote a status over the outcome of {count} rows, such as {', '.join(map(str, newest))}",
            "find the program that writes notification_status; our status is put back only once for each generation",
        )
    return passed("no other program wrote a status over an outcome")
