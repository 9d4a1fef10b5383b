"""Proves the doorbell without leaving a row behind.

A temporary table with the outbox's own column types gets the installed trigger function; an eligible row is committed
into it, and its table disappears with that commit. Heard on the listening connection, this proves that the function
rings, that the ring survives the commit, and that LISTEN works where we listen (a transaction pooler fails here). That
the outbox itself has the triggers is what comparing the catalogue proves. Dispatchers that run are woken once, in vain.
"""

import time
from datetime import timedelta

from psycopg import errors, sql

from dispatcher.config.table_names import CHANNEL, OutboxTable, parse_outbox_name
from dispatcher.install.files import as_sql
from dispatcher.install.options import DEFAULT, Options
from dispatcher.install.session import BACKEND, Connection, is_shared, limit_locks, one_value, open_session, pin, run
from dispatcher.models.errors import CheckFailed, ConfigurationError

TABLE = """
create temporary table dispatcher_probe on commit drop as
  select notification_status, publish_status, deactivated, scheduled_for from {} where false;
create trigger dispatcher_probe after insert on pg_temp.dispatcher_probe
  referencing new table as inserted for each statement execute function dispatcher.ring_v1();
insert into pg_temp.dispatcher_probe values ('PENDING', 'PUBLISH', false, null);
"""


NOT_RECEIVED = (
    "the doorbell is not heard: give DISPATCHER_LISTEN_DATABASE_URL a direct connection, a pooler in transaction mode"
    " forgets LISTEN"
)


async def verify_notify(
    url: str, options: Options = DEFAULT, *, listen_url: str | None = None, patience: timedelta = timedelta(seconds=5)
) -> timedelta:
    """Return how long a ring took from before its commit to the listener; CheckFailed when none is heard."""
    outbox = parse_outbox_name(options.outbox)
    async with open_session(listen_url or url) as listener, open_session(url) as producer:
        if await is_shared(listener, listen_url or url):  # a LISTEN would stay with a session that is not ours
            raise CheckFailed(NOT_RECEIVED)
        await run(listener, sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))
        began = time.monotonic()
        backend = await commit_probe_row(producer, outbox, options)
        async for heard in listener.notifies(timeout=patience.total_seconds()):
            if heard.pid == backend:
                return timedelta(seconds=time.monotonic() - began)
    raise CheckFailed(NOT_RECEIVED)


async def commit_probe_row(producer: Connection, outbox: OutboxTable, options: Options) -> object:
    """Commit an eligible row into a table that is gone with the commit; return whose commit that was."""
    try:
        async with producer.transaction():
            # So it rings beside a dispatcher that is awake, too.
            await run(producer, sql.SQL("set transaction isolation level repeatable read"))
            await pin(producer, local=True)
            await limit_locks(producer, options.lock_timeout, local=True)
            await run(producer, sql.SQL("set local dispatcher.quiet = off"))
            await run(producer, as_sql(TABLE).format(outbox.identifier))
            return await one_value(producer, BACKEND)
    except (errors.UndefinedFunction, errors.InvalidSchemaName) as error:
        raise CheckFailed("the doorbell is not installed: run dispatcher db install") from error
    except errors.UndefinedTable as error:
        raise ConfigurationError(f"table {outbox} does not exist: set DISPATCHER_OUTBOX") from error
