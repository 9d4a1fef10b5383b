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

from dispatcher.decisions.backoff import BREAKER
from dispatcher.models.claims import ClaimSizes, Start
from dispatcher.postgres.outbox import Outbox
from dispatcher.postgres.pool import LOST
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.starter import START_FAILURES, Starter
from dispatcher.wakeup.adaptive_notify import Doorbell
from dispatcher.wakeup.signal import Source, Wake

CLAIM_ROWS = 1000
CAPACITY_ROWS = 2000
"""A node holds at most so many rows of one enterprise, and less than twice as many in all, so that a lease does not run
out while its row waits for a slot."""
SOLO_ROWS = 10
"""A claim of up to so many rows starts a workflow each: lowest latency. More are cut into batches."""
STARTS_IN_FLIGHT = 16
LINGER_SECONDS = 0.02
"""Also the most that a row scheduled this near can be late."""
FULL_SECONDS = 0.05
"""How soon to look again while the node holds all it may."""

log = get_logger("dispatch")


class Openable(Protocol):
    """Says whether what is claimed can be sent now."""

    open: bool


class Door:
    """Claims and starts, for one node."""

    def __init__(  # noqa: PLR0913  (four it works with, three it is told)
        self,
        outbox: Outbox,
        starter: Starter,
        wake: Wake,
        gate: Openable,
        *,
        lease: timedelta,
        batch_size: int,
        adaptive: bool,
    ) -> None:
        self._outbox = outbox
        self._starter = starter
        self._wake = wake
        self._gate = gate
        self._lease = lease
        solo = CLAIM_ROWS if batch_size == 1 else SOLO_ROWS
        self._sizes = ClaimSizes(CLAIM_ROWS, CAPACITY_ROWS, solo, batch_size)
        self._slots = anyio.CapacityLimiter(STARTS_IN_FLIGHT)
        self._bell = Doorbell(outbox, wake, self._drain) if adaptive else None
        self._full = False
        self._failures = 0
        self._woken_by: Source = "other"
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()  # a stop may come before the first run

    async def run(self) -> None:
        """Serve wake-ups until `close`."""
        while not self._closing:
            self._idle.clear()
            self._woken_by = self._wake.source
            self._wake.clear()
            pause = await self._guarded_run_once()
            self._idle.set()
            if not self._closing:
                await self._sleep(pause)

    async def close(self) -> None:
        """Take no more; return when what was taken is started or handed back."""
        self._closing = True
        if self._bell is not None:
            self._bell.leave()
        self._wake.set()
        await self._idle.wait()

    async def run_once(self) -> float | None:
        """Claim and start until nothing is due; return the seconds until something will be."""
        await self._drain()
        # Rung while we drained: producers are faster than one drain, and a muffled bell pays. One row at a time is not,
        # and is heard sooner than any poll would find it.
        pressed = self._wake.is_set()
        healthy = not self._failures and self._gate.open
        if self._bell is not None and (self._bell.believed or (pressed and healthy)):
            await self._bell.stay_up()
            return 0
        if healthy and await self._rung_again():
            return 0
        if self._failures:
            return BREAKER.jittered(self._failures, random.random()).total_seconds()  # noqa: S311
        return FULL_SECONDS if self._full else await self._outbox.next_due()

    async def _drain(self) -> bool:
        """Claim and start until nothing more is due, or can be held; return whether that was a backlog."""
        taken = 0
        while not self._closing and self._gate.open and await self._temporal_answers():
            claim = await self._outbox.claim(secrets.token_hex(6), self._lease, self._sizes)
            health.whole("postgres")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._muffle)
                for start in claim.starts:
                    tasks.start_soon(self._start, start)
            if claim.starts:
                log.info("claimed", rows=claim.rows, workflows=len(claim.starts))
                metrics.CLAIMED.labels(self._source).inc(claim.rows)
            taken += claim.rows
            await self._note_room(claim.room)
            if self._full or claim.rows < claim.room or self._failures:
                break
        self._full = self._full and self._gate.open  # behind a shut gate there is no work to stay up for
        return taken > SOLO_ROWS or self._full

    @property
    def _source(self) -> Source:
        """What led to this claim: a muffled bell leaves the finding to our polls."""
        return "poll" if self._bell is not None and self._bell.believed else self._woken_by

    async def _muffle(self) -> None:
        """Muffle the bell as soon as it rang while one claim ran, and keep it so."""
        if self._bell is not None and (self._bell.muffled or self._wake.is_set()):
            with contextlib.suppress(*LOST):  # the next one says it; what was claimed is started
                await self._bell.muffle()

    async def _note_room(self, room: int) -> None:
        """Remember whether the node is full; when it has just become so, wake the others, whose bell we may muffle."""
        if room == 0 and not self._full:
            await self._outbox.ring()
        self._full = room == 0

    async def _guarded_run_once(self) -> float | None:
        """Run once; a lost database is waited for, and nothing else ends the loop."""
        try:
            pause = await self.run_once()
        except LOST as error:
            log.warning("database_unreachable", error=str(error))
            health.broken("postgres", f"{type(error).__name__}: {error}")
        except Exception:  # a row or a bug must not close the door for all the others
            log.exception("dispatch_failed")
        else:
            return pause
        self._failures += 1
        return BREAKER.jittered(self._failures, random.random()).total_seconds()  # noqa: S311

    async def _temporal_answers(self) -> bool:
        """Return whether to claim: always while all is well, after a failure only when the server is back."""
        if self._failures and not await self._starter.answers():
            self._failures += 1
            return False
        self._failures = 0
        return True

    async def _start(self, start: Start) -> None:
        """Start one workflow, or hand its rows back."""
        async with self._slots:
            with metrics.INFLIGHT.track_inprogress():
                started = not self._closing and not self._failures and await self._started(start)
        metrics.DISPATCH.labels(self._source, "started" if started else "handed_back").inc()
        if not started:
            with contextlib.suppress(*LOST):  # then the lease hands them back
                await self._outbox.unclaim(start)

    async def _started(self, start: Start) -> bool:
        try:
            await self._starter.start(start)
        except START_FAILURES as error:
            log.warning("start_failed", workflow_id=start.workflow_id, error=f"{type(error).__name__}: {error}")
            self._failures += 1
            return False
        return True

    async def _rung_again(self) -> bool:
        """Linger: what was just started gets the processor first, and a wake-up meanwhile saves the question."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
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
