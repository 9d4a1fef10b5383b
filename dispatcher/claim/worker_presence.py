"""Split roles: tells a process that only claims whether Novu accepts any live worker. If not, rows stay PENDING."""

from datetime import timedelta
from functools import partial

import anyio
import psycopg

from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.periodic import run_every
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import WakeUp

WORKER_POLL_SECONDS = 1.0
HEARTBEAT_TTL = timedelta(seconds=6)
"""A heartbeat counts for this long. For as long a worker may be missing before `novu` fails: a restart is no outage."""
log = get_logger("worker_presence")


class LiveWorkers:
    """Whether a live worker exists. `allows_calls` plays the part of the circuit breaker for the claim loop."""

    def __init__(self, outbox: OutboxStore) -> None:
        self.allows_calls = False
        self._outbox = outbox
        self._no_worker_since: float | None = None
        """Time of the first check that found no worker, if all checks since found none."""

    async def run(self, wake: WakeUp) -> None:
        """Search for live workers every second. Wake the claim loop when there is one again."""
        await run_every(
            WORKER_POLL_SECONDS, partial(self._check, wake), component=None, failure_event="worker_check_failed"
        )

    async def _check(self, wake: WakeUp) -> None:
        try:
            self._update(wake, has_worker=await self._outbox.has_live_worker(HEARTBEAT_TTL))
        except psycopg.Error:
            self.allows_calls, self._no_worker_since = False, None
            raise

    def _update(self, wake: WakeUp, *, has_worker: bool) -> None:
        if has_worker and not self.allows_calls:
            log.info("workers_found")
            wake.notify("other")
        self.allows_calls = has_worker
        if has_worker:
            self._no_worker_since = None
            health.report_ok("novu")
            return
        now = anyio.current_time()
        self._no_worker_since = self._no_worker_since or now
        if now - self._no_worker_since >= HEARTBEAT_TTL.total_seconds():
            health.report_failure(
                "novu", "no live dispatcher run --role worker is accepted by Novu; rows wait as PENDING"
            )
