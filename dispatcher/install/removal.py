"""Takes the installation out again: triggers and their function in one transaction, then the indexes.

The ledger knows what was sent to whom. It stays unless its removal is asked for, so that a later installation does not
send anything twice.
"""

from psycopg import errors

from dispatcher.config.table_names import Outbox, parse
from dispatcher.install import preflight, steps
from dispatcher.install.locks import patiently
from dispatcher.install.options import DEFAULT, Options, Say, ignore
from dispatcher.install.session import Connection, connected, limit_locks, one_value, own_turn, run
from dispatcher.models.errors import ConfigurationError


async def uninstall(url: str, options: Options = DEFAULT, say: Say = ignore) -> None:
    """Remove what `install` added to the outbox, and with `options.ledger` our schema too. Gone already is fine."""
    outbox = parse(options.outbox)
    async with connected(url) as connection:
        await preflight.check_server(connection)
        async with own_turn(connection, options, say):
            oid = await one_value(connection, "select to_regclass(%s)::oid::bigint", (str(outbox),))
            locked = None if oid is None else int(str(oid))
            await patiently(connection, locked, options, say, lambda: take_out(connection, outbox, options))
            await patiently(connection, locked, options, say, lambda: drop_indexes(connection, outbox, options))


async def take_out(connection: Connection, outbox: Outbox, options: Options) -> None:
    """Drop the triggers and what they call."""
    await limit_locks(connection, options.lock_timeout)
    try:
        async with connection.transaction():
            for statement in [*steps.trigger_removal(outbox), *steps.ledger_removal(ledger=options.ledger)]:
                await run(connection, statement)
    except errors.DependentObjectsStillExist as error:
        detail = (error.diag.message_detail or "").split("\n")[0]
        raise ConfigurationError(
            f"the doorbell is still in use, nothing was removed ({detail}): uninstall that outbox first"
        ) from error


async def drop_indexes(connection: Connection, outbox: Outbox, options: Options) -> None:
    """Drop the sweep indexes without blocking writers."""
    await limit_locks(connection, options.index_timeout)
    for statement in steps.index_removal(outbox):
        await run(connection, statement)
