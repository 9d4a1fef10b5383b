"""Removes an installation: triggers and their function in one transaction, then the indexes.

The ledger records what was sent to which recipient. It stays unless `options.ledger` asks for its removal, so that a
later installation sends nothing twice.
"""

from psycopg import errors, sql

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install import preflight, steps
from dispatcher.install.locks import retry_on_lock
from dispatcher.install.options import DEFAULT, Options, Say, say_nothing
from dispatcher.install.session import Connection, connect_exclusive_session, exclusive, limit_locks, one_value, run
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import find_other_outbox


async def uninstall(url: str, options: Options = DEFAULT, say: Say = say_nothing) -> None:
    """Remove the objects that `install` added to the outbox; with `options.ledger`, our schema too.

    Objects that are missing already are no error. If the ledger is that of another outbox, the trigger function stays.
    Raises ConfigurationError if another outbox still uses the function or a pooler shares the session. Raises
    Unreachable for a lost server or lock.
    """
    outbox = parse_outbox_name(options.outbox)
    async with connect_exclusive_session(url) as connection:
        await preflight.check_server(connection)
        async with exclusive(connection, options, say):
            oid = await one_value(connection, "select to_regclass(%s)::oid::bigint", (str(outbox),))
            locked = None if oid is None else int(str(oid))
            other = None if oid is None else await find_other_outbox(connection, str(outbox))
            if other and options.ledger:
                raise ConfigurationError(f"the ledger is that of {other}: leave out --ledger, or give --outbox {other}")
            drops = steps.trigger_removal(outbox, function=not other)
            drops += [] if other else steps.ledger_removal(ledger=options.ledger)
            await retry_on_lock(connection, locked, options, say, lambda: drop_triggers(connection, drops, options))
            await retry_on_lock(connection, locked, options, say, lambda: drop_indexes(connection, outbox, options))


async def drop_triggers(connection: Connection, drops: list[sql.Composed], options: Options) -> None:
    """Drop the triggers and their function in one transaction. `drops`: the statements."""
    await limit_locks(connection, options.lock_timeout)
    try:
        async with connection.transaction():
            for statement in drops:
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
