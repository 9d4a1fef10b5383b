"""The sweep: finds what no wake-up told us, and rows whose run is lost.

A row whose lease ran out is not taken away blindly: Temporal is asked whether its workflow still runs. Safe beside any
number of other sweeps.
"""

import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import anyio

from dispatcher import __version__
from dispatcher.models.claims import Late
from dispatcher.postgres.outbox import Outbox
from dispatcher.postgres.pool import LOST
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.logs import get_logger, kind
from dispatcher.temporal.starter import START_FAILURES, Starter
from dispatcher.wakeup.signal import Wake

SOON_SECONDS = 1.0
RESCUE_ROWS = 2000
QUESTIONS_IN_FLIGHT = 8

log = get_logger("sweep")


class Hearing(Protocol):
    """Whether wake-ups reach us."""

    mode: str


@dataclass(slots=True)
class Found:
    """What one sweep did, in rows."""

    renewed: int = 0
    rescued: int = 0
    adopted: int = 0


class Sweep:
    """Looks after lost rows, and wakes the door."""

    def __init__(  # noqa: PLR0913  (four it works with, three it is told)
        self,
        outbox: Outbox,
        starter: Starter,
        wake: Wake,
        hearing: Hearing,
        *,
        interval: timedelta,
        lease: timedelta,
        role: str = "all",
        on_swept: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._outbox = outbox
        self._starter = starter
        self._wake = wake
        self._hearing = hearing
        self._interval = interval
        self._lease = lease
        self._role = role
        self._on_swept = on_swept
        self._first = False

    async def run(self) -> None:
        """Sweep at once and then at every jittered interval; the second time soon, to say whether we hear."""
        pause = min(SOON_SECONDS, self._interval.total_seconds())
        while True:
            outcome = await self._guarded_run_once()
            metrics.SWEEP_RUNS.labels(outcome).inc()
            self._on_swept(outcome == "ok" and self._first)
            await anyio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311
            pause = self._interval.total_seconds()

    async def _guarded_run_once(self) -> str:
        """Sweep, and say how that went; a lost database is waited for, and nothing else ends the loop."""
        try:
            with metrics.SWEEP_DURATION.time():
                await self.run_once()
        except LOST as error:
            log.warning("database_unreachable", error=str(error))
            health.broken("postgres", f"{type(error).__name__}: {error}")
            return "lost"
        except Exception as error:  # the sweep is the safety net: it must not end
            log.exception("sweep_failed")
            health.broken("sweep", kind(error))
            return "failed"
        metrics.SWEEP_SUCCESS.set_to_current_time()
        health.whole("postgres")
        health.whole("sweep")
        return "ok"

    async def run_once(self) -> Found:
        """Look once for everything a sweep looks for."""
        self._wake.ring("sweep")
        self._first = await self._outbox.beat(
            role=self._role, host=socket.gethostname(), version=__version__, mode=self._hearing.mode
        )
        return await self.look()

    async def look(self) -> Found:
        """Look after lost rows, without a word about this process."""
        found = Found(adopted=await self._outbox.adopt(self._lease, RESCUE_ROWS))
        expired = await self._outbox.expired(RESCUE_ROWS)
        limiter = anyio.CapacityLimiter(QUESTIONS_IN_FLIGHT)
        async with anyio.create_task_group() as tasks:
            for late in expired:
                tasks.start_soon(self._look_after, late, found, limiter)
        metrics.SWEEP_FOUND.inc(found.rescued + found.adopted)
        if found.rescued or found.adopted:
            log.warning("rescued", rows=found.rescued, adopted=found.adopted, still_running=found.renewed)
        return found

    async def _look_after(self, late: Late, found: Found, limiter: anyio.CapacityLimiter) -> None:
        """Renew rows whose workflow runs; start the others' again. Where anything is away, the next sweep goes on."""
        async with limiter:
            with contextlib.suppress(*START_FAILURES, *LOST):
                if await self._starter.is_running(late.workflow_id):
                    await self._outbox.renew(late.ids, late.fences, self._lease)
                    found.renewed += len(late.ids)
                elif start := await self._outbox.rescue(late, self._lease):
                    found.rescued += len(start.notification_ids)
                    await self._starter.start(start)
