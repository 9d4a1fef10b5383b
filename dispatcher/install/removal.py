"""Removes an installation: triggers and their function in one transaction, then the indexes.

The ledger records what was sent to which recipient. It stays unless `options.ledger` asks for its removal, so that a
later installation sends nothing twice.
"""

from psycopg import errors

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install import preflight, steps
from dispatcher.install.locks import retry_on_lock
from dispatcher.install.options import DEFAULT, Options, Say, say_nothing
from dispatcher.install.session import Connection, connect_exclusive_session, exclusive, limit_locks, one_value, run
from dispatcher.models.errors import ConfigurationError


async def uninstall(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> None:
    """Remove the objects that `install` added to the outbox; with `options.ledger`, our schema too.

    Objects that are missing already are no error. Raises ConfigurationError if another outbox still uses the trigger
    function or a pooler shares the session, Unreachable for a lost server or lock.
    """
    outbox = parse_outbox_name(options.outbox)
    async with connect_exclusive_session(url) as connection:
        await preflight.check_server(connection)
        async with exclusive(connection, options, say):
            oid = await one_value(connection, "select to_regclass(%s)::oid::bigint", (str(outbox),))
            locked = None if oid is None else int(str(oid))
            await retry_on_lock(connection, locked, options, say, lambda: drop_triggers(connection, outbox, options))
            await retry_on_lock(connection, locked, options, say, lambda: drop_indexes(connection, outbox, options))


async def drop_triggers(connection: Connection, outbox: OutboxTable, options: Options) -> None:
    """Drop the triggers and their function."""
    await limit_locks(connection, options.lock_timeout)
    try:
        async with connection.transaction():
            for statement in [*steps.trigger_removal(outbox), *steps.ledger_removal(ledger=options.ledger)]:
                await run(connection, statement)
    except errors.DependentObjectsStillExist as error:
        detail = (error.diag.message_detail or "").split("\n")[0]
        raise ConfigurationError(
            f"the trigger function is still in use, nothing was removed ({detail}): uninstall that outbox first"
        ) from error


async def drop_indexes(connection: Connection, outbox: OutboxTable, options: Options) -> None:
    """Drop the outbox's indexes without blocking writers."""
    await limit_locks(connection, options.index_timeout)
    for statement in steps.index_removal(outbox):
        await run(connection, statement)
