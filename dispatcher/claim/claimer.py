"""The door: takes what is due and starts its workflows.

Every wake-up leads here, whatever caused it, and carries nothing: the claim decides. Between wake-ups the door sleeps
until the next row becomes due by itself. While Temporal does not answer or Novu refuses us all, nothing is claimed.
"""

import asyncio
import contextlib
import random
import secrets
from datetime import timedelta
from typing import Protocol

import anyio

from dispatcher.decisions.backoff import TEMPORAL_BACKOFF
from dispatcher.models.claims import ClaimLimits, WorkflowStart
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.starter import START_FAILURES, WorkflowStarter
from dispatcher.wakeup.adaptive_notify import AdaptiveNotify
from dispatcher.wakeup.signal import WakeSource, WakeUp

MAX_CLAIMED_ROWS = 1000
MAX_LEASED_ROWS = 2000
"""A node holds at most so many rows of one enterprise, and less than twice as many in all, so that a lease does not run
out while its row waits for a slot."""
MAX_SINGLE_WORKFLOWS = 10
"""A claim of up to so many rows starts a workflow each: lowest latency. More are cut into batches."""
MAX_PARALLEL_STARTS = 16
BRIEF_WAIT_SECONDS = 0.02
"""Also the most that a row scheduled this near can be late."""
RETRY_WHEN_FULL_SECONDS = 0.05
"""How soon to look again while the node holds all it may."""

log = get_logger("claimer")


class AllowsCalls(Protocol):
    """Says whether what is claimed can be sent now."""

    allows_calls: bool


class Claimer:
    """Claims and starts, for one node."""

    def __init__(  # noqa: PLR0913  (four it works with, three it is told)
        self,
        outbox: OutboxStore,
        starter: WorkflowStarter,
        wake: WakeUp,
        breaker: AllowsCalls,
        *,
        lease: timedelta,
        batch_size: int,
        adaptive: bool,
    ) -> None:
        self._outbox = outbox
        self._starter = starter
        self._wake = wake
        self._breaker = breaker
        self._lease = lease
        solo = MAX_CLAIMED_ROWS if batch_size == 1 else MAX_SINGLE_WORKFLOWS
        self._limits = ClaimLimits(MAX_CLAIMED_ROWS, MAX_LEASED_ROWS, solo, batch_size)
        self._start_slots = anyio.CapacityLimiter(MAX_PARALLEL_STARTS)
        self._adaptive_notify = AdaptiveNotify(outbox, wake, self._claim_all_due) if adaptive else None
        self._full = False
        self._failures = 0
        self._woken_by: WakeSource = "other"
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()  # a stop may come before the first run

    async def run(self) -> None:
        """Serve wake-ups until `close`."""
        while not self._stopping:
            self._idle.clear()
            self._woken_by = self._wake.source
            self._wake.clear()
            pause = await self._guarded_run_once()
            self._idle.set()
            if not self._stopping:
                await self._sleep(pause)

    async def stop(self) -> None:
        """Take no more; return when what was taken is started or handed back."""
        self._stopping = True
        if self._adaptive_notify is not None:
            self._adaptive_notify.stop()
        self._wake.set()
        await self._idle.wait()

    async def run_once(self) -> float | None:
        """Claim and start until nothing is due; return the seconds until something will be."""
        await self._claim_all_due()
        # Rung while we drained: producers are faster than one drain, and a muffled bell pays. One row at a time is not,
        # and is heard sooner than any poll would find it.
        woken_meanwhile = self._wake.is_set()
        healthy = not self._failures and self._breaker.allows_calls
        if self._adaptive_notify is not None and (
            self._adaptive_notify.may_have_suppressed or (woken_meanwhile and healthy)
        ):
            await self._adaptive_notify.poll_until_idle()
            return 0
        if healthy and await self._wait_briefly():
            return 0
        if self._failures:
            return TEMPORAL_BACKOFF.jittered(self._failures, random.random()).total_seconds()  # noqa: S311
        return RETRY_WHEN_FULL_SECONDS if self._full else await self._outbox.seconds_until_due()

    async def _claim_all_due(self) -> bool:
        """Claim and start until nothing more is due, or can be held; return whether that was a backlog."""
        taken = 0
        while not self._stopping and self._breaker.allows_calls and await self._temporal_is_available():
            claim = await self._outbox.claim(secrets.token_hex(6), self._lease, self._limits)
            health.report_ok("postgres")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._suppress_notify)
                for start in claim.starts:
                    tasks.start_soon(self._start, start)
            if claim.starts:
                log.info("claimed", rows=claim.rows, workflows=len(claim.starts))
                metrics.CLAIMED.labels(self._claim_source).inc(claim.rows)
            taken += claim.rows
            await self._record_capacity(claim.free_capacity)
            if self._full or claim.rows < claim.free_capacity or self._failures:
                break
        self._full = self._full and self._breaker.allows_calls  # behind a shut gate there is no work to stay up for
        return taken > MAX_SINGLE_WORKFLOWS or self._full

    @property
    def _claim_source(self) -> WakeSource:
        """What led to this claim: a muffled bell leaves the finding to our polls."""
        return (
            "poll"
            if self._adaptive_notify is not None and self._adaptive_notify.may_have_suppressed
            else self._woken_by
        )

    async def _suppress_notify(self) -> None:
        """Muffle the bell as soon as it rang while one claim ran, and keep it so."""
        if self._adaptive_notify is not None and (self._adaptive_notify.is_marked_awake or self._wake.is_set()):
            with contextlib.suppress(*CONNECTION_ERRORS):  # the next one says it; what was claimed is started
                await self._adaptive_notify.mark_awake()

    async def _record_capacity(self, free_capacity: int) -> None:
        """Remember whether the node is full; when it has just become so, wake the others, whose bell we may muffle."""
        if free_capacity == 0 and not self._full:
            await self._outbox.notify_all()
        self._full = free_capacity == 0

    async def _guarded_run_once(self) -> float | None:
        """Run once; a lost database is waited for, and nothing else ends the loop."""
        try:
            pause = await self.run_once()
        except CONNECTION_ERRORS as error:
            log.warning("database_unreachable", error=str(error))
            health.report_failure("postgres", f"{type(error).__name__}: {error}")
        except Exception:  # a row or a bug must not close the door for all the others
            log.exception("dispatch_failed")
        else:
            return pause
        self._failures += 1
        return TEMPORAL_BACKOFF.jittered(self._failures, random.random()).total_seconds()  # noqa: S311

    async def _temporal_is_available(self) -> bool:
        """Return whether to claim: always while all is well, after a failure only when the server is back."""
        if self._failures and not await self._starter.is_available():
            self._failures += 1
            return False
        self._failures = 0
        return True

    async def _start(self, start: WorkflowStart) -> None:
        """Start one workflow, or hand its rows back."""
        async with self._start_slots:
            with metrics.INFLIGHT.track_inprogress():
                started = not self._stopping and not self._failures and await self._started(start)
        metrics.DISPATCH.labels(self._claim_source, "started" if started else "handed_back").inc()
        if not started:
            with contextlib.suppress(*CONNECTION_ERRORS):  # then the lease hands them back
                await self._outbox.release_unstarted(start)

    async def _started(self, start: WorkflowStart) -> bool:
        try:
            await self._starter.start(start)
        except START_FAILURES as error:
            log.warning("start_failed", workflow_id=start.workflow_id, error=f"{type(error).__name__}: {error}")
            self._failures += 1
            return False
        return True

    async def _wait_briefly(self) -> bool:
        """Linger: what was just started gets the processor first, and a wake-up meanwhile saves the question."""
        try:
            async with asyncio.timeout(BRIEF_WAIT_SECONDS):
                return await self._wake.wait()
        except TimeoutError:
            return False

    async def _sleep(self, seconds: float | None) -> None:
        """Wait for a wake-up, at most so long. After a failure a wake-up does not shorten the wait."""
        if self._failures:
            return await asyncio.sleep(seconds or 0)
        try:
            async with asyncio.timeout(None if seconds is None else max(seconds, 0.001)):
                await self._wake.wait()
        except TimeoutError:
            return None
