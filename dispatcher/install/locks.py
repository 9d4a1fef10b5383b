"""Retries work that does not get its locks within the lock timeout.

While we wait for a lock on the outbox, its writers queue behind us. Therefore the timeout is short, and writers proceed
in the pauses between the attempts.
"""

from collections.abc import Awaitable, Callable

import anyio
from psycopg import errors

from dispatcher.install.options import Options, Say
from dispatcher.install.session import Connection
from dispatcher.models.errors import Unreachable

# The session that holds a lock for which our change waits, on the outbox or on a table of ours. If there is none, the
# session with the oldest transaction: building an index waits for that.
HOLDERS = """
select a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, '?'), coalesce(a.state, 'unknown'),
  coalesce(date_trunc('seconds', clock_timestamp() - a.xact_start)::text, '?')
from pg_stat_activity as a
left join (
  select pid from pg_locks
  where granted and mode not in ('AccessShareLock', 'RowShareLock')
    and (relation = %s or relation in (select oid from pg_class where relnamespace = to_regnamespace('dispatcher')))
) as holder on holder.pid = a.pid
where a.datname = current_database() and a.pid <> pg_backend_pid()
  and (holder.pid is not null or a.xact_start is not null)
order by holder.pid is null, a.xact_start
limit 1
"""


async def retry_on_lock(
    connection: Connection, outbox: int | None, options: Options, say: Say, work: Callable[[], Awaitable[None]]
) -> None:
    """Run `work`, up to `options.attempts` times, until it gets its locks. `outbox`: the table's oid, if it exists.

    Raises Unreachable after the last attempt; its sentence names the session that holds the lock.
    """
    pause = 0.5
    for attempt in range(1, options.attempts + 1):
        try:
            await work()
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            holder = await lock_holder(connection, outbox)
            if attempt == options.attempts:
                raise Unreachable(
                    f"the lock was not free in {attempt} attempts: {holder}; end that session and run this again"
                ) from error
            say(f"{holder}; attempt {attempt} of {options.attempts}, next in {pause:g} s")
        else:
            return
        await anyio.sleep(pause)
        pause = min(pause * 2, 8.0)  # 0.5 1 2 4 8 8 …


async def lock_holder(connection: Connection, outbox: int | None) -> str:
    """Return a clause that names the session for whose lock we wait."""
    row = await (await connection.execute(HOLDERS, (outbox,))).fetchone()
    if row is None:
        return "the session that held the lock has ended"
    pid, name, state, age = row
    return f"pid {pid} ({name}, {state}, in its transaction for {age}) holds the lock"
