"""The listener: a connection of its own that hears the triggers' NOTIFY and wakes the door.

Only a canary proves that it hears: another connection notifies a channel of ours, and the word has to arrive. Neither
keepalives nor `pg_listening_channels()` would notice a transaction pooler or a stalled proxy. While unheard, we poll.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import psycopg
from psycopg import AsyncConnection, sql

from dispatcher.config.table_names import CHANNEL
from dispatcher.decisions.backoff import Backoff
from dispatcher.models.errors import Unreachable
from dispatcher.postgres.notify_queue import CROWDED, QUEUE
from dispatcher.postgres.pool import LOST, Pool, configure, patience, using
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import Wake

EVENT = "EVENT"
POLLING = "POLLING"
CANARY_SECONDS = 5.0
POLL_SECONDS = 0.4

HEARD = metrics.NOTIFICATIONS_RECEIVED.labels("wake_up")
CANARIES = metrics.NOTIFICATIONS_RECEIVED.labels("canary")

log = get_logger("listener")


class UnheardError(Exception):
    """The canary did not come back: this connection hears nothing."""


class Listener:
    """Hears wake-ups for one node. `mode` is EVENT only while the canary comes back."""

    def __init__(self, conninfo: str, pool: Pool, wake: Wake, node: str, pauses: Backoff) -> None:
        self.mode = POLLING
        self._conninfo = conninfo
        self._pool = pool
        self._wake = wake
        self._canary = f"{CHANNEL}_canary_{node}"
        self._heard = asyncio.Event()
        self._failures = 0
        self._crowded = False
        self._pauses = pauses

    async def run(self) -> None:
        """Listen for ever, poll while unheard."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll_while_unheard)
            while True:
                await self._listen_until_lost()
                await anyio.sleep(self._pauses.jittered(self._failures, random.random()).total_seconds())  # noqa: S311

    async def _listen_until_lost(self) -> None:
        """Serve one connection; return when it is lost."""
        try:
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            return self._lost(error)
        try:
            await self._serve(connection)
        except (UnheardError, *LOST) as error:
            self._lost(error)
        finally:
            metrics.LISTENER_CONNECTED.set(0)
            # Closed hard: a polite goodbye could wait for a peer that is gone.
            connection.pgconn.finish()

    async def _serve(self, connection: AsyncConnection) -> None:
        """LISTEN first, then wake the door: what was committed before is found by the claim, what comes later rings."""
        await configure(connection)
        async with patience(connection, CANARY_SECONDS):
            for channel in (CHANNEL, self._canary):
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        metrics.LISTENER_CONNECTED.set(1)
        self._wake.set()
        await first_to_end(lambda: self._hear(connection), self._prove)

    async def _hear(self, connection: AsyncConnection) -> None:
        """Turn notifications into events. Nothing else may happen here: leaving this loop loses what it was given."""
        async for notify in connection.notifies():
            if notify.channel == CHANNEL:
                self._wake.ring("notify")
                HEARD.inc()
                metrics.LAST_NOTIFICATION.set_to_current_time()
            else:
                CANARIES.inc()
                metrics.LAST_CANARY.set_to_current_time()
                self._heard.set()

    async def _prove(self) -> None:
        """Send canaries from the pool; raise when one does not come back in time."""
        while True:
            self._heard.clear()
            await self._send_canary()
            try:
                async with asyncio.timeout(CANARY_SECONDS):
                    await self._heard.wait()
            except TimeoutError:
                raise UnheardError("a NOTIFY sent from another connection did not arrive") from None
            self._proven()
            await asyncio.sleep(CANARY_SECONDS)

    async def _send_canary(self) -> None:
        try:
            async with using(self._pool, CANARY_SECONDS) as other:
                await self._watch_queue(other)
                await other.execute("select pg_notify(%s, '')", [self._canary])
        except LOST as error:  # not our ears: the pool cannot speak
            health.broken("postgres", f"{type(error).__name__}: {error}")
            raise

    async def _watch_queue(self, connection: AsyncConnection) -> None:
        """Say once that the queue of notifications fills up: while it is full, producers cannot commit."""
        cursor = await connection.execute(QUEUE)
        async for usage, pid in cursor:
            if (usage >= CROWDED) is not self._crowded:
                self._crowded = not self._crowded
                tell = log.warning if self._crowded else log.info
                tell("notify_queue_fills" if self._crowded else "notify_queue_empty", usage=usage, blocking_pid=pid)

    def _proven(self) -> None:
        if self.mode is POLLING:
            log.info("listening", after_failures=self._failures)
        self.mode = EVENT
        self._failures = 0
        metrics.LISTENER_VERIFIED.set(1)
        health.whole("listener")

    def _lost(self, error: Exception) -> None:
        """Remember the loss; one log line per loss, not per try."""
        self._failures += 1
        if self.mode is EVENT or self._failures == 1:
            log.warning(
                "not_listening",
                error=f"{type(error).__name__}: {error}",
                hint="polling instead; behind a transaction pooler set DISPATCHER_LISTEN_DATABASE_URL to a direct URL",
            )
        self.mode = POLLING
        metrics.LISTENER_VERIFIED.set(0)
        metrics.LISTENER_RECONNECTS.labels("unheard" if isinstance(error, UnheardError) else "lost").inc()
        health.broken("listener", f"{type(error).__name__}: {error}")

    async def _poll_while_unheard(self) -> None:
        while True:
            await anyio.sleep(POLL_SECONDS * random.uniform(0.7, 1.2))  # noqa: S311
            if self.mode is POLLING:
                self._wake.ring("poll")


class Deaf:
    """No listener, by choice: every wake-up is a poll."""

    mode = POLLING

    def __init__(self, wake: Wake) -> None:
        self._wake = wake

    async def run(self) -> None:
        """Poll for ever."""
        health.whole("listener")
        while True:
            self._wake.ring("poll")
            await anyio.sleep(POLL_SECONDS * random.uniform(0.7, 1.2))  # noqa: S311


async def first_to_end(*jobs: Callable[[], Awaitable[None]]) -> None:
    """Run jobs side by side until one of them raises; raise that alone.

    Plain tasks instead of a task group: the caller wants the error itself, and psycopg needs to be cancelled once.
    """
    tasks = [asyncio.ensure_future(job()) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def check_listening(conninfo: str) -> None:
    """Raise `Unreachable` when the listening address does not let us in."""
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unreachable(f"DISPATCHER_LISTEN_DATABASE_URL: PostgreSQL does not let us in: {reason}") from error
    await connection.close()
