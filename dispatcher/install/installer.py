"""Installs and upgrades: one transaction for everything but the indexes, which are built without blocking anybody.

Running it again is always right: what is as it should be is not touched, so a second run takes no lock on the outbox. A
database that a newer version has installed is left alone.
"""

from dispatcher.config.conninfo import pooler_hint
from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install import catalogue, preflight, steps
from dispatcher.install.locks import retry_on_lock
from dispatcher.install.options import DEFAULT, Difference, Options, Report, Say, say_nothing
from dispatcher.install.rendering import rendered
from dispatcher.install.rights import lacking_rights
from dispatcher.install.session import (
    Connection,
    connect_exclusive_session,
    exclusive,
    limit_locks,
    read_only_session,
    run,
)


async def install(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> Report:
    """Make the database what this version expects; also the upgrade."""
    outbox = parse_outbox_name(options.outbox)
    async with connect_exclusive_session(url) as connection:
        oid = await preflight.check(connection, outbox)
        lacking = await lacking_rights(connection, outbox, oid, indexes=options.indexes)
        if lacking.to_look:
            lacking.require_all()  # so that one sentence names everything
        async with exclusive(connection, options, say):
            before = await compare(connection, outbox, oid, options)
            if any(each.problem == "newer" for each in before):
                return Report(remaining=before, warnings=["a newer version has installed this: nothing was changed"])
            if before:
                lacking.require_all()
                await retry_on_lock(connection, oid, options, say, lambda: repair(connection, outbox, oid, options))
                await retry_on_lock(
                    connection, oid, options, say, lambda: build_indexes(connection, outbox, oid, options, say)
                )
            after = await compare(connection, outbox, oid, options) if before else []
    hint = pooler_hint(url)
    warnings = [f"{hint}: better install through the direct connection"] if hint else []
    return Report([each for each in before if each not in after], after, warnings)


async def inspect(url: str, options: Options = DEFAULT) -> list[Difference]:
    """Return every difference between the live catalogue and what this version expects; changes nothing."""
    outbox = parse_outbox_name(options.outbox)
    async with read_only_session(url, options.lock_timeout) as connection:
        oid = await preflight.check(connection, outbox)
        (await lacking_rights(connection, outbox, oid, indexes=options.indexes)).require_look()
        return await catalogue.differences(connection, outbox, oid, indexes=options.indexes)


async def plan(url: str, options: Options = DEFAULT) -> tuple[list[Difference], str]:
    """Return what an upgrade would find and the SQL it would run; changes nothing."""
    found = await inspect(url, options)
    newer = any(each.problem == "newer" for each in found)
    return found, "" if newer or not found else rendered(parse_outbox_name(options.outbox), found, options)


async def compare(connection: Connection, outbox: OutboxTable, oid: int, options: Options) -> list[Difference]:
    """Compare within the limits of an installation."""
    await limit_locks(connection, options.lock_timeout)
    return await catalogue.differences(connection, outbox, oid, indexes=options.indexes)


async def repair(connection: Connection, outbox: OutboxTable, oid: int, options: Options) -> None:
    """Run what is needed in one transaction; the triggers, which make writers wait, come last."""
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
    for words, statement in steps.index_work(outbox, found).items():
        say(words)
        await run(connection, statement)
