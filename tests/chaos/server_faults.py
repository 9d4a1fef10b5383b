"""Faults of PostgreSQL and Temporal themselves, and of others who use the tables."""

import asyncio
import os
import signal
from random import Random
from typing import Any

import psycopg

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.injections import injection, met
from tests.chaos.process_faults import state_of
from tests.support.waits import last_value

OURS = "datname = current_database() and application_name = 'dispatcher'"


@injection("PostgreSQL fast restart")
async def fast(environment: ChaosEnvironment, dice: Random) -> str:
    """Restart PostgreSQL in order."""
    return await restart_postgres(environment, None, dice.uniform(0, 1))


@injection("PostgreSQL immediate restart")
async def immediate(environment: ChaosEnvironment, dice: Random) -> str:
    """Restart PostgreSQL as if it had crashed."""
    return await restart_postgres(environment, signal.SIGQUIT, dice.uniform(0, 1))


async def restart_postgres(environment: ChaosEnvironment, how: signal.Signals | None, seconds: float) -> str:
    async with environment.postgres.lock:
        since = "select pg_postmaster_start_time()"
        before, pid = await environment.value(since), environment.postgres.pid
        await environment.postgres.end(how)
        await asyncio.sleep(seconds)
        await environment.postgres.start()
        met(await environment.value(since) > before and environment.postgres.pid != pid, "it is the same server")
        return f"pid {pid}, then {environment.postgres.pid}, {seconds:.1f} s away"


@injection("Temporal kill -9 and restart")
async def temporal(environment: ChaosEnvironment, dice: Random) -> str:
    """Kill Temporal; it comes back with what its file holds."""
    async with environment.temporal.lock:
        pid, seconds = environment.temporal.pid, dice.uniform(0, 3)
        await environment.temporal.end(signal.SIGKILL)
        await asyncio.sleep(seconds)
        await environment.temporal.start()
        met(environment.temporal.pid != pid, "it is the same server")
        return f"pid {pid}, then {environment.temporal.pid}, {seconds:.1f} s away"


@injection("listeners terminated")
async def listeners(environment: ChaosEnvironment, dice: Random) -> str:
    """End every listening session."""
    return await terminated(environment, "query ilike 'listen %' or query = 'unlisten *'", seconds=8)


@injection("all sessions terminated")
async def sessions(environment: ChaosEnvironment, dice: Random) -> str:
    """End every session of ours."""
    return await terminated(environment, OURS, seconds=8)


async def terminated(environment: ChaosEnvironment, whose: str, seconds: float) -> str:
    others = "from pg_stat_activity where pid <> pg_backend_pid()"

    async def ended() -> int:
        return await environment.value(f"select count(pg_terminate_backend(pid)) {others} and ({whose})")

    count = await last_value(ended, seconds, every=0.05)
    met(count, "there was none")
    return f"{count} sessions"


@injection("sessions paused")
async def paused(environment: ChaosEnvironment, dice: Random) -> str:
    """All our backends are paused for a moment."""
    seconds = dice.uniform(1, 4)
    pids = [pid for (pid,) in await environment.rows(f"select pid from pg_stat_activity where {OURS}")]
    met(pids, "there was none")
    try:
        for pid in pids:
            signalled(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        stopped = sum(state_of(pid) == "T" for pid in pids)
    finally:
        for pid in pids:
            signalled(pid, signal.SIGCONT)
    met(stopped, "they are gone")
    return f"{stopped} of {len(pids)} backends, {seconds:.1f} s"


def signalled(pid: int, number: signal.Signals) -> None:
    """Send a signal to a backend of our own server, unless it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@injection("triggers disabled")
async def silenced(environment: ChaosEnvironment, dice: Random) -> str:
    """No row sends a NOTIFY."""
    seconds = dice.uniform(2, 6)
    names = ("dispatcher_insert", "dispatcher_update")
    try:
        await triggers(environment, "disable", names)
        off = await environment.value(
            "select count(*) from pg_trigger where tgname like 'dispatcher_%' and tgenabled = 'D'"
        )
        await asyncio.sleep(seconds)
    finally:
        await triggers(environment, "enable", names)
    met(off == len(names), "they were not off")
    return f"{seconds:.1f} s"


async def triggers(environment: ChaosEnvironment, how: str, names: tuple[str, ...]) -> None:
    for name in names:
        await environment.rows(f"alter table notify.ent_notification {how} trigger {name}")


LOCKS = (
    "lock table notify.ent_notification in access exclusive mode",
    "lock table notify.ent_notification in share row exclusive mode",
    "lock table dispatcher.delivery in access exclusive mode",
    "select from notify.ent_notification where notification_status in ('PENDING', 'PROCESSING') for update",
    "select from dispatcher.recipient where state = 'sending' for update",
)


@injection("locks of others")
async def locked(environment: ChaosEnvironment, dice: Random) -> str:
    """Another session locks rows that we need."""
    statement, seconds = dice.choice(LOCKS), dice.uniform(1, 4)
    try:
        async with await psycopg.AsyncConnection.connect(environment.stack.url) as other:
            await other.execute("set lock_timeout = '10 s'")
            await other.execute(statement.encode())
            held = await (await other.execute("select count(*) from pg_locks where pid = pg_backend_pid()")).fetchone()
            await asyncio.sleep(seconds)
    except psycopg.OperationalError as error:  # another fault ended it
        held = None
        met(held, f"{type(error).__name__} while locking")
    met(held and held[0], "nothing was locked")
    return f"{statement!r}, {seconds:.1f} s"


@injection("rows locked for 30 s")
async def locked_rows(environment: ChaosEnvironment, dice: Random) -> str:
    """A producer's open transaction holds a few of the newest rows."""
    newest = "select id from notify.ent_notification order by id desc limit 40"
    chosen = dice.sample([row_id for (row_id,) in await environment.rows(newest)] or [0], k=1)
    statement = "select id from notify.ent_notification where id between %s and %s for update skip locked"
    locked: list[Any] = []
    try:
        async with await psycopg.AsyncConnection.connect(environment.stack.url) as other:
            locked = await (await other.execute(statement.encode(), (chosen[0] - 3, chosen[0]))).fetchall()
            await asyncio.sleep(30)
            await other.execute("select 1")
    except psycopg.OperationalError as error:  # another fault ended it
        met(False, f"{type(error).__name__} while holding {len(locked)} rows")  # noqa: FBT003
    met(locked, "nothing was locked")
    return f"{len(locked)} rows up to {chosen[0]}"


@injection("forged wake-ups")
async def forged(environment: ChaosEnvironment, dice: Random) -> str:
    """Payloads on our channel that another session sent."""
    words = dice.choice(("-1", "'; drop table x; --", "\x1b[31m", "y" * 6500))
    count = dice.randint(50, 500)
    sent = await environment.value(
        "select count(pg_notify('dispatcher', %s || i::text)) from generate_series(1, %s) i", words, count
    )
    met(sent == count, "they were not sent")
    return f"{count} times {words[:30]!r}"
