"""Tells `dispatch` whether a worker lives that Novu lets in; while none does, rows wait as PENDING."""

from datetime import timedelta

import anyio
import psycopg

from dispatcher.postgres.outbox import Outbox
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import Wake

LOOK_SECONDS = 1.0
BELIEVED = timedelta(seconds=6)
"""How long a worker's last word holds, and how long there may be none: a restart is no outage."""
log = get_logger("roles")


class Workforce:
    """What `dispatch` knows of the workers; `open` as the gate of a process that is both."""

    def __init__(self, outbox: Outbox) -> None:
        self.open = False
        self._outbox = outbox
        self._deserted: float | None = None
        """When the first look found no worker, of those that found none since."""

    async def run(self, wake: Wake) -> None:
        """Look whether there are any; wake the door when there are again."""
        while True:
            try:
                self._learn(await self._outbox.has_worker(BELIEVED), wake)
            except psycopg.Error:
                self.open, self._deserted = False, None  # whoever claims meets the same, and says it
            await anyio.sleep(LOOK_SECONDS)

    def _learn(self, staffed: bool, wake: Wake) -> None:  # noqa: FBT001  (what was learned)
        if staffed and not self.open:
            log.info("workers_found")
            wake.ring("other")
        self.open = staffed
        if staffed:
            self._deserted = None
            health.whole("novu")
            return
        now = anyio.current_time()
        self._deserted = self._deserted or now
        if now - self._deserted >= BELIEVED.total_seconds():
            health.broken("novu", "no dispatcher run --role worker lives that Novu lets in; rows wait as PENDING")
