"""Proves that a commit sends NOTIFY and that the listening address receives it. Leaves no row behind.

A temporary table gets the installed trigger function. A commit with a row in it drops the table and sends NOTIFY. If
the listening connection receives that NOTIFY, the function works, its NOTIFY survives the commit, and LISTEN works at
this address (behind a pooler in transaction mode it does not). The comparison of the catalogue proves that the outbox
itself has the triggers. Running dispatchers wake up once and find nothing.
"""

import time
from datetime import timedelta
from functools import partial

from psycopg import errors, sql

from dispatcher.config.table_names import CHANNEL, OutboxTable, parse_outbox_name
from dispatcher.install.files import as_sql
from dispatcher.install.options import DEFAULT, Options
from dispatcher.install.session import Connection, limit_locks, open_session, run
from dispatcher.models.errors import CheckFailed, ConfigurationError
from dispatcher.postgres.session import INSTALLER_SETTINGS, apply_settings, backend_pid, is_shared

PROBE = """
create temporary table dispatcher_probe on commit drop as select from {} where false;
create trigger dispatcher_probe after insert on pg_temp.dispatcher_probe
  for each statement execute function dispatcher.ring_v2();
insert into pg_temp.dispatcher_probe default values;
"""
NOT_RECEIVED = (
    "the NOTIFY of a commit did not arrive: set DISPATCHER_LISTEN_DATABASE_URL to a direct connection,"
    " because a pooler in transaction mode forgets LISTEN"
)


async def verify_notify(
    url: str, options: Options = DEFAULT, *, listen_url: str | None = None, patience: timedelta = timedelta(seconds=5)
) -> timedelta:
    """Return the time from before a commit at `url` until its NOTIFY arrived at `listen_url` (default: `url`).

    Raises CheckFailed if none arrives within `patience`, if the listening address is a pooler in transaction mode, or
    if the trigger function is missing; ConfigurationError if the outbox is missing; Unreachable without a server.
    """
    outbox = parse_outbox_name(options.outbox)
    async with open_session(listen_url or url) as listener, open_session(url) as producer:
        if await is_shared(listener, partial(open_session, listen_url or url)):  # LISTEN would not stay with us
            raise CheckFailed(NOT_RECEIVED)
        await run(listener, sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))
        began = time.monotonic()
        producer_pid = await commit_probe_row(producer, outbox, options)
        async for notify in listener.notifies(timeout=patience.total_seconds()):
            if notify.pid == producer_pid:
                return timedelta(seconds=time.monotonic() - began)
    raise CheckFailed(NOT_RECEIVED)


async def commit_probe_row(producer: Connection, outbox: OutboxTable, options: Options) -> int:
    """Commit a row into a table that is dropped by the commit. Return the process id that sent the NOTIFY."""
    try:
        async with producer.transaction():
            # The trigger sends NOTIFY above READ COMMITTED even while a running dispatcher suppresses it.
            await run(producer, sql.SQL("set transaction isolation level repeatable read"))
            await apply_settings(producer, {**INSTALLER_SETTINGS, "dispatcher.quiet": "off"}, local=True)
            await limit_locks(producer, options.lock_timeout, local=True)
            await run(producer, as_sql(PROBE).format(outbox.identifier))
            return await backend_pid(producer)
    except (errors.UndefinedFunction, errors.InvalidSchemaName) as error:
        raise CheckFailed("the trigger function is not installed: run dispatcher db install") from error
    except errors.UndefinedTable as error:
        raise ConfigurationError(f"table {outbox} does not exist: set DISPATCHER_OUTBOX") from error
