"""The claim loop: claims due rows and starts their workflows.

Every wake-up, whatever caused it, leads to one claim; the claim decides which rows are due. While runs of this process
are in flight, rows gather for a moment, so that the next claim takes them together. Between wake-ups the loop sleeps
until the next scheduled row or retry becomes due. While Temporal does not answer, or the circuit breaker towards
Novu is tripped, it claims nothing, so rows wait as PENDING.
"""

import asyncio
import contextlib
import random
import secrets
from datetime import timedelta
from typing import Protocol

import anyio

from dispatcher.decisions.backoff import TEMPORAL_BACKOFF
from dispatcher.models.claims import ClaimLimits, ClaimResult, WorkflowStart
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS, lock_reason
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.labels import WakeSource
from dispatcher.telemetry.logs import error_code, get_logger
from dispatcher.temporal.runs_in_flight import RunsInFlight
from dispatcher.temporal.starter import START_FAILURES, WorkflowStarter
from dispatcher.wakeup.adaptive_notify import AdaptiveNotify, NodeState
from dispatcher.wakeup.signal import WakeUp

MAX_CLAIMED_ROWS = 1000
MAX_LEASED_ROWS = 2000
"""A node holds at most this many rows of one enterprise, and less than twice as many in all. Otherwise leases would
expire while their rows wait for a worker's slot."""
MAX_PARALLEL_STARTS = 16
BRIEF_WAIT_SECONDS = 0.02
"""A row that is scheduled nearer than this can be late by as much."""
RETRY_WHEN_FULL_SECONDS = 0.05

log = get_logger("claimer")


class AllowsCalls(Protocol):
    """Whether Novu can be called now: the circuit breaker, or with split roles the presence of a live worker."""

    allows_calls: bool


class Claimer:
    """The claim loop of one node. `lease`: of the rows that it claims. `batch_size`: rows of one batch, 1 for none."""

    def __init__(  # noqa: PLR0913  (five parts that it works with, three settings)
        self,
        outbox: OutboxStore,
        starter: WorkflowStarter,
        wake: WakeUp,
        breaker: AllowsCalls,
        runs: RunsInFlight,
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
        self._runs = runs
        self._limits = ClaimLimits(MAX_CLAIMED_ROWS, MAX_LEASED_ROWS, batch_size)
        self._start_slots = anyio.CapacityLimiter(MAX_PARALLEL_STARTS)
        self._adaptive_notify = AdaptiveNotify(outbox, wake, self.claim_all_due) if adaptive else None
        self._was_full = False
        self._failures = 0
        self._woken_by: WakeSource = "other"
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()  # `stop` may be called before the first run

    async def run(self) -> None:
        """Serve wake-ups until `stop`. A lost database or an unexpected error only makes it pause."""
        while not self._stopping:
            self._idle.clear()
            self._woken_by = self._wake.source
            self._wake.clear()
            pause = await self._guarded_run_once()
            self._idle.set()
            if not self._stopping:
                await self._sleep(pause)

    async def stop(self) -> None:
        """Claim nothing more. Return when every claimed row is started or released."""
        self._stopping = True
        self._runs.stop()
        if self._adaptive_notify is not None:
            self._adaptive_notify.stop()
        self._wake.set()
        await self._idle.wait()

    async def run_once(self) -> float | None:
        """Claim and start until nothing is due. Return the seconds until the next row becomes due, None for never."""
        result = await self.claim_all_due()
        # A NOTIFY arrived while we were claiming, so producers commit faster than we claim. Suppressing NOTIFY is
        # cheaper from here on. With one row at a time it is not, and a NOTIFY is faster than any poll.
        woken_meanwhile = self._wake.is_set()
        healthy = not self._failures and self._breaker.allows_calls
        if self._adaptive_notify is not None and (self._may_miss_notify or (woken_meanwhile and healthy)):
            await self._adaptive_notify.poll_until_idle()
            return 0
        # A brief wait: started workflows get the processor first, and a wake-up saves the query for the next due row.
        if healthy and await self._woken_within(BRIEF_WAIT_SECONDS):
            return 0
        if self._failures:
            return self._backoff_seconds()
        return RETRY_WHEN_FULL_SECONDS if result.is_full else await self._outbox.seconds_until_due()

    async def claim_all_due(self) -> ClaimResult:
        """Claim and start until nothing more is due, the node is full, or something that it needs fails."""
        rows, is_full = 0, False
        await self._gather()
        while not self._stopping and self._breaker.allows_calls and await self._temporal_is_available():
            claim = await self._outbox.claim(secrets.token_hex(6), self._lease, self._limits)
            health.report_ok("postgres")
            health.report_ok("claim")
            await self._start_all(claim.starts)
            if claim.starts:
                log.info("claimed", rows=claim.rows, workflows=len(claim.starts))
                metrics.CLAIMED.labels(self._source).inc(claim.rows)
            rows += claim.rows
            is_full = claim.free_capacity == 0
            if is_full and not self._was_full:
                await self._outbox.notify_all()  # other nodes have room, and their NOTIFY may be suppressed by us
            if is_full or claim.rows < claim.free_capacity or self._failures:
                break
        self._was_full = is_full = (
            is_full and self._breaker.allows_calls
        )  # a tripped breaker leaves nothing to poll for
        return ClaimResult(rows, backlog=rows > 1 or is_full, is_full=is_full)

    @property
    def _may_miss_notify(self) -> bool:
        """Whether a producer may have committed without NOTIFY, so that this node has to poll."""
        return self._adaptive_notify is not None and self._adaptive_notify.state is not NodeState.ASLEEP

    @property
    def _source(self) -> WakeSource:
        """The cause of this claim. While NOTIFY is suppressed, rows are found by polls."""
        return "poll" if self._may_miss_notify else self._woken_by

    async def _gather(self) -> None:
        """Let rows gather while runs of this process are in flight, unless the last claim left rows behind."""
        if not self._was_full and await self._runs.wait_until_none():
            self._wake.clear()  # the claim that follows sees what was announced until now

    async def _start_all(self, starts: list[WorkflowStart]) -> None:
        self._runs.add(start.workflow_id for start in starts)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._suppress_notify)
            for start in starts:
                tasks.start_soon(self._start, start)

    async def _suppress_notify(self) -> None:
        """Mark this node awake if a NOTIFY arrived during a claim, and renew that while it is awake."""
        notify = self._adaptive_notify
        if notify is not None and (notify.state is NodeState.AWAKE or self._wake.is_set()):
            with contextlib.suppress(*CONNECTION_ERRORS):  # the next claim reports it; the claimed rows are started
                await notify.mark_awake()

    async def _guarded_run_once(self) -> float | None:
        """Run once; return the seconds to sleep."""
        try:
            pause = await self.run_once()
        except LOCK_ERRORS as error:
            log.warning("lock_timeout", error=str(error))
            health.report_failure("claim", lock_reason(error))
        except CONNECTION_ERRORS as error:
            log.warning("database_unreachable", error=str(error))
            health.report_failure("postgres", f"{type(error).__name__}: {error}")
        except Exception as error:  # one row or one bug must not stop the claims of all others
            log.exception("dispatch_failed")
            health.report_failure("claim", f"{error_code(error)}: see dispatch_failed in the log")
        else:
            health.report_ok("claim")  # also if it may not claim now: Temporal and Novu are parts of their own
            return pause
        self._failures += 1
        return self._backoff_seconds()

    def _backoff_seconds(self) -> float:
        return TEMPORAL_BACKOFF.jittered(self._failures, random.random()).total_seconds()  # noqa: S311

    async def _temporal_is_available(self) -> bool:
        """Return whether to claim: without a failure always, after a failure only if the Temporal server answers."""
        if self._failures and not await self._starter.is_available():
            self._failures += 1
            return False
        self._failures = 0
        return True

    async def _start(self, start: WorkflowStart) -> None:
        """Start one workflow, or release its rows."""
        async with self._start_slots:
            with metrics.INFLIGHT.track_inprogress():
                started = not self._stopping and not self._failures and await self._try_start(start)
        metrics.DISPATCH.labels(self._source, "started" if started else "handed_back").inc()
        if not started:
            self._runs.remove(start.workflow_id)
            with contextlib.suppress(*CONNECTION_ERRORS):  # then their leases expire, and a sweep rescues them
                await self._outbox.release_unstarted(start)

    async def _try_start(self, start: WorkflowStart) -> bool:
        try:
            await self._starter.start(start)
        except START_FAILURES as error:
            log.warning("start_failed", workflow_id=start.workflow_id, error=f"{type(error).__name__}: {error}")
            self._failures += 1
            return False
        return True

    async def _woken_within(self, seconds: float | None) -> bool:
        """Wait for a wake-up, at most so many seconds, None for ever. Return whether it came."""
        try:
            async with asyncio.timeout(seconds):
                return await self._wake.wait()
        except TimeoutError:
            return False

    async def _sleep(self, seconds: float | None) -> None:
        """Wait for a wake-up, at most so many seconds. After a failure a wake-up does not shorten the wait."""
        if self._failures:
            await asyncio.sleep(seconds or 0)
        else:
            await self._woken_within(None if seconds is None else max(seconds, 0.001))
