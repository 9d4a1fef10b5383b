"""The sweep: wakes the claim loop for rows that no NOTIFY announced, and rescues rows whose run is gone.

An expired lease alone proves nothing: the rescuer asks Temporal whether the workflow still runs. Any number of nodes
may sweep at the same time.
"""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import anyio

from dispatcher import __version__
from dispatcher.claim.foreign_statuses import ForeignStatuses
from dispatcher.models.claims import ExpiredLease, WorkflowStart
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.periodic import run_every
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS
from dispatcher.telemetry import metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.starter import START_FAILURES, WorkflowStarter
from dispatcher.wakeup.signal import WakeUp

SECOND_RUN_SECONDS = 1.0
"""The second sweep comes soon, because the listener's mode is known by then."""
MAX_RESCUED_ROWS = 2000
MAX_PARALLEL_DESCRIBES = 8

log = get_logger("rescuer")


class HasMode(Protocol):
    """How wake-ups arrive: `mode` is EVENT or POLLING."""

    mode: str


@dataclass(slots=True)
class SweepResult:
    """The result of one sweep, in rows."""

    renewed: int = 0
    rescued: int = 0
    adopted: int = 0
    put_back: int = 0


class Rescuer:
    """Runs the sweep of one node. After each it calls `on_swept`: did the first of all live nodes succeed?"""

    def __init__(  # noqa: PLR0913  (four parts that it works with, four settings)
        self,
        outbox: OutboxStore,
        starter: WorkflowStarter,
        wake: WakeUp,
        listener: HasMode,
        *,
        interval: timedelta,
        lease: timedelta,
        role: str = "all",
        on_swept: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._outbox = outbox
        self._foreign_statuses = ForeignStatuses(outbox)
        self._starter = starter
        self._wake = wake
        self._listener = listener
        self._interval = interval
        self._lease = lease
        self._role = role
        self._on_swept = on_swept
        self._is_first_node = False

    async def run(self) -> None:
        """Sweep at once and then at every interval. The second sweep comes soon: it writes the listener's mode."""
        seconds = self._interval.total_seconds()
        await run_every(
            seconds,
            self._sweep,
            component="sweep",
            failure_event="sweep_failed",
            first_pause=min(SECOND_RUN_SECONDS, seconds),
        )

    async def _sweep(self) -> None:
        """Sweep once, and count how it ended."""
        outcome = "failed"
        try:
            with metrics.SWEEP_DURATION.time():
                await self.run_once()
            outcome = "ok"
            metrics.SWEEP_SUCCESS.set_to_current_time()
        except LOCK_ERRORS:
            raise
        except CONNECTION_ERRORS:
            outcome = "lost"
            raise
        finally:
            metrics.SWEEP_RUNS.labels(outcome).inc()
            self._on_swept(outcome == "ok" and self._is_first_node)

    async def run_once(self) -> SweepResult:
        """Wake the claim loop, write this node's heartbeat, and rescue rows."""
        self._wake.notify("sweep")
        self._is_first_node = await self._outbox.heartbeat(
            role=self._role, host=socket.gethostname(), version=__version__, mode=self._listener.mode
        )
        return await self.run_rescue()

    async def run_rescue(self) -> SweepResult:
        """Rescue rows whose lease expired. Unlike a sweep of `run`, it writes no heartbeat of this process."""
        put_back = await self._foreign_statuses.put_back()
        adopted = await self._outbox.adopt_orphans(self._lease, MAX_RESCUED_ROWS)
        found = SweepResult(adopted=adopted, put_back=put_back)
        expired = await self._outbox.find_expired(MAX_RESCUED_ROWS)
        limiter = anyio.CapacityLimiter(MAX_PARALLEL_DESCRIBES)
        async with anyio.create_task_group() as tasks:
            for late in expired:
                tasks.start_soon(self._rescue, late, found, limiter)
        metrics.SWEEP_FOUND.inc(found.rescued + found.adopted)
        if found.rescued or found.adopted:
            log.warning("rescued", rows=found.rescued, adopted=found.adopted, still_running=found.renewed)
        return found

    async def _rescue(self, expired: ExpiredLease, result: SweepResult, limiter: anyio.CapacityLimiter) -> None:
        """Renew the leases if the workflow runs, else start it again. If a server is away, the next sweep goes on."""
        async with limiter:
            with contextlib.suppress(*START_FAILURES, *CONNECTION_ERRORS):
                if await self._starter.is_running(expired.workflow_id):
                    await self._outbox.renew_leases(expired.ids, expired.fences, self._lease)
                    result.renewed += len(expired.ids)
                elif start := await self._outbox.rescue(expired, self._lease):
                    result.rescued += len(start.notification_ids)
                    await self._start_again(start, expired)

    async def _start_again(self, start: WorkflowStart, expired: ExpiredLease) -> None:
        """Start the workflow of rescued rows. If Temporal does not start it, the rescue spends no attempt of theirs."""
        try:
            await self._starter.start(start)
        except START_FAILURES:
            await self._outbox.uncount_rescue(expired)
            raise
