"""The listener: receives the triggers' NOTIFY on a connection of its own, and wakes the claim loop.

Only a canary proves that NOTIFYs arrive: every 5 s another connection sends one on a channel of this node. Neither
keepalives nor `pg_listening_channels()` would notice a transaction pooler or a stalled proxy. Until the canary arrives,
the node polls about every 0.4 s.
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
from dispatcher.postgres.notify_queue import QUEUE_USAGE, QUEUE_USAGE_LIMIT
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection, configure_session, deadline
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import WakeUp

EVENT = "EVENT"
POLLING = "POLLING"
CANARY_INTERVAL_SECONDS = 5.0
FALLBACK_POLL_SECONDS = 0.4

WAKE_UPS_RECEIVED = metrics.NOTIFICATIONS_RECEIVED.labels("wake_up")
CANARIES_RECEIVED = metrics.NOTIFICATIONS_RECEIVED.labels("canary")

log = get_logger("listener")


class CanaryTimeout(Exception):
    """The canary did not arrive within 5 s, so this connection receives no NOTIFY."""


class Listener:
    """Receives wake-ups for one node. `mode` is EVENT only while canaries arrive. `backoff`: before reconnects."""

    def __init__(self, conninfo: str, pool: Pool, wake: WakeUp, node: str, backoff: Backoff) -> None:
        self.mode = POLLING
        self._conninfo = conninfo
        self._pool = pool
        self._wake = wake
        self._canary = f"{CHANNEL}_canary_{node}"
        self._canary_arrived = asyncio.Event()
        self._failures = 0
        self._queue_warned = False
        self._backoff = backoff

    async def run(self) -> None:
        """Listen until cancelled; poll while no canary arrives."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll_until_verified)
            while True:
                await self._listen_until_lost()
                await anyio.sleep(self._backoff.jittered(self._failures, random.random()).total_seconds())  # noqa: S311

    async def _listen_until_lost(self) -> None:
        """Use one connection; return when it is lost."""
        try:
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            return self._log_loss(error)
        try:
            await self._serve(connection)
        except (CanaryTimeout, *CONNECTION_ERRORS) as error:
            self._log_loss(error)
        finally:
            metrics.LISTENER_CONNECTED.set(0)
            # Closed without the protocol's goodbye, which could wait for a peer that is gone.
            connection.pgconn.finish()

    async def _serve(self, connection: AsyncConnection) -> None:
        """LISTEN first, then wake the claim loop: it finds earlier commits, and later commits send NOTIFY."""
        await configure_session(connection)
        async with deadline(connection, CANARY_INTERVAL_SECONDS):
            for channel in (CHANNEL, self._canary):
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        metrics.LISTENER_CONNECTED.set(1)
        self._wake.set()
        await wait_for_first(lambda: self._receive(connection), self._run_canary)

    async def _receive(self, connection: AsyncConnection) -> None:
        """Turn NOTIFYs into wake-ups. Nothing else may happen here, or a NOTIFY that psycopg handed over is lost."""
        async for notify in connection.notifies():
            if notify.channel == CHANNEL:
                self._wake.notify("notify")
                WAKE_UPS_RECEIVED.inc()
                metrics.LAST_NOTIFICATION.set_to_current_time()
            else:
                CANARIES_RECEIVED.inc()
                metrics.LAST_CANARY.set_to_current_time()
                self._canary_arrived.set()

    async def _run_canary(self) -> None:
        """Send canaries from the pool. Raises `CanaryTimeout` if one does not arrive in time."""
        while True:
            self._canary_arrived.clear()
            await self._send_canary()
            try:
                async with asyncio.timeout(CANARY_INTERVAL_SECONDS):
                    await self._canary_arrived.wait()
            except TimeoutError:
                raise CanaryTimeout("a NOTIFY sent from another connection did not arrive") from None
            self._mark_verified()
            await asyncio.sleep(CANARY_INTERVAL_SECONDS)

    async def _send_canary(self) -> None:
        try:
            async with borrow_connection(self._pool, CANARY_INTERVAL_SECONDS) as other:
                await self._check_queue(other)
                await other.execute("select pg_notify(%s, '')", [self._canary])
        except CONNECTION_ERRORS as error:  # the pool cannot send; the listening connection may be fine
            health.report_failure("postgres", f"{type(error).__name__}: {error}")
            raise

    async def _check_queue(self, connection: AsyncConnection) -> None:
        """Log once that PostgreSQL's NOTIFY queue fills up: when it is full, producers cannot commit."""
        cursor = await connection.execute(QUEUE_USAGE)
        async for usage, pid in cursor:
            if (usage >= QUEUE_USAGE_LIMIT) is not self._queue_warned:
                self._queue_warned = not self._queue_warned
                if self._queue_warned:
                    log.warning("notify_queue_fills", usage=usage, blocking_pid=pid)
                else:
                    log.info("notify_queue_empty", usage=usage, blocking_pid=pid)

    def _mark_verified(self) -> None:
        if self.mode is POLLING:
            log.info("listening", after_failures=self._failures)
        self.mode = EVENT
        self._failures = 0
        metrics.LISTENER_VERIFIED.set(1)
        health.report_ok("listener")

    def _log_loss(self, error: Exception) -> None:
        """Record the loss. It is logged once per loss, not once per attempt to reconnect."""
        self._failures += 1
        if self.mode is EVENT or self._failures == 1:
            log.warning(
                "not_listening",
                error=f"{type(error).__name__}: {error}",
                hint="polling instead; behind a transaction pooler set DISPATCHER_LISTEN_DATABASE_URL to a direct URL",
            )
        self.mode = POLLING
        metrics.LISTENER_VERIFIED.set(0)
        metrics.LISTENER_RECONNECTS.labels("unheard" if isinstance(error, CanaryTimeout) else "lost").inc()
        health.report_failure("listener", f"{type(error).__name__}: {error}")

    async def _poll_until_verified(self) -> None:
        while True:
            await anyio.sleep(FALLBACK_POLL_SECONDS * random.uniform(0.7, 1.2))  # noqa: S311
            if self.mode is POLLING:
                self._wake.notify("poll")


class PollOnly:
    """Stands for the listener when DISPATCHER_NOTIFY_MODE=off: every wake-up is a poll."""

    mode = POLLING

    def __init__(self, wake: WakeUp) -> None:
        self._wake = wake

    async def run(self) -> None:
        """Poll until cancelled."""
        health.report_ok("listener")
        while True:
            self._wake.notify("poll")
            await anyio.sleep(FALLBACK_POLL_SECONDS * random.uniform(0.7, 1.2))  # noqa: S311


async def wait_for_first(*jobs: Callable[[], Awaitable[None]]) -> None:
    """Run jobs side by side until one raises, and raise that error alone.

    It uses plain tasks: a task group would wrap the error, and would cancel psycopg more than once.
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


async def check_listen_address(conninfo: str) -> None:
    """Raise `Unreachable` if PostgreSQL refuses a session at the listening address."""
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unreachable(f"DISPATCHER_LISTEN_DATABASE_URL: PostgreSQL refuses the session: {reason}") from error
    await connection.close()
