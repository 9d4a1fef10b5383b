"""Installs and upgrades: one transaction, and then the outbox's indexes, which are built without blocking writers.

It may be run at any time: only objects that differ are changed, so a second run takes no lock on the outbox. A database
that a newer version has installed is not changed.
"""

from dispatcher.config.conninfo import pooler_hint
from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install import catalogue, identity, ledger_version, preflight, steps
from dispatcher.install.ledger_preflight import check_keys
from dispatcher.install.locks import retry_on_lock
from dispatcher.install.options import DEFAULT, Difference, Options, Report, Say, say_nothing
from dispatcher.install.rendering import rendered
from dispatcher.install.rights import lacking_rights
from dispatcher.install.session import (
    Connection,
    connect_exclusive_session,
    exclusive,
    limit_locks,
    one_value,
    open_session,
    read_only_session,
    run,
)
from dispatcher.postgres.installation import require_own_outbox

MAY_RECORD = "select has_table_privilege('dispatcher.installation', 'UPDATE')"
"""A role that may only look can still learn that nothing differs."""


async def install(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> Report:
    """Create or change every object that differs from this version's: a first installation and an upgrade.

    Waits up to `options.exclusive_timeout` for another installer; `say` gets a line about each wait. Raises
    ConfigurationError for a table, a right or a pooler that does not fit, Unreachable for a lost server or lock.
    """
    outbox = parse_outbox_name(options.outbox)
    async with connect_exclusive_session(url) as connection:
        oid = await preflight.check(connection, outbox)
        lacking = await lacking_rights(connection, outbox, oid, indexes=options.indexes)
        if lacking.to_look:
            lacking.require_all()  # raise one error that names the rights for changing, too
        await require_own_outbox(connection, str(outbox))
        async with exclusive(connection, options, say):
            if not options.restored and options.installation is None and not lacking.to_change:
                await identity.refuse_restored_outbox(connection, outbox)
            before = await compare(connection, outbox, oid, options)
            if any(each.problem == "newer" for each in before):
                return Report(
                    remaining=before, warnings=["a newer version installed this database: nothing was changed"]
                )
            if before:
                lacking.require_all()
                await check_keys(connection)
                await retry_on_lock(connection, oid, options, say, lambda: repair(connection, outbox, oid, options))
                await retry_on_lock(
                    connection, oid, options, say, lambda: build_indexes(connection, outbox, oid, options, say)
                )
            after = await compare(connection, outbox, oid, options) if before else []
            elsewhere = None
            if await one_value(connection, MAY_RECORD):
                await run(connection, steps.place_recording(outbox))
                elsewhere = await identity.adopt_configured(connection, options.installation)
    hint = pooler_hint(url)
    warnings = [f"{hint}: install over a direct connection instead"] if hint else []
    warnings += [elsewhere] if elsewhere and not options.restored else []
    return Report([each for each in before if each not in after], after, warnings)


async def inspect(url: str, options: Options = DEFAULT) -> list[Difference]:
    """Return every difference between the live objects and this version's. Changes nothing.

    Raises ConfigurationError for a table or a right that does not fit, Unreachable for a lost server.
    """
    outbox = parse_outbox_name(options.outbox)
    async with read_only_session(url, options.lock_timeout) as connection:
        oid = await preflight.check(connection, outbox)
        (await lacking_rights(connection, outbox, oid, indexes=options.indexes)).require_look()
        await require_own_outbox(connection, str(outbox))
        return await catalogue.differences(connection, outbox, oid, indexes=options.indexes)


async def plan(url: str, options: Options = DEFAULT) -> tuple[list[Difference], str]:
    """Return the differences, and the SQL that an upgrade would run: empty without any, or after a newer version.

    Changes nothing. Raises as `inspect` does.
    """
    found = await inspect(url, options)
    newer = any(each.problem == "newer" for each in found)
    return found, "" if newer or not found else rendered(parse_outbox_name(options.outbox), found, options)


async def is_ledger_newer(url: str) -> bool:
    """Return whether a version that knows more files than this one has upgraded the database. Needs no right.

    Raises Unreachable without a server.
    """
    async with open_session(url) as connection:
        return await ledger_version.is_newer(connection)


async def compare(connection: Connection, outbox: OutboxTable, oid: int, options: Options) -> list[Difference]:
    """Return the differences. Wait at most `options.lock_timeout` for each lock."""
    await limit_locks(connection, options.lock_timeout)
    return await catalogue.differences(connection, outbox, oid, indexes=options.indexes)


async def repair(connection: Connection, outbox: OutboxTable, oid: int, options: Options) -> None:
    """Repair all but the indexes in one transaction. The triggers come last, because they make writers wait."""
    async with connection.transaction():
        found = await compare(connection, outbox, oid, options)
        for statement in steps.transaction(outbox, found):
            await run(connection, statement)


async def build_indexes(connection: Connection, outbox: OutboxTable, oid: int, options: Options, say: Say) -> None:
    """Build the indexes that are missing, invalid or different."""
    if not options.indexes:
        return
    found = await compare(connection, outbox, oid, options)
    await limit_locks(connection, options.index_timeout)
    for message, statement in steps.index_work(outbox, found).items():
        say(message)
        await run(connection, statement)
