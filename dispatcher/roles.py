"""A dispatcher in two kinds of process: `dispatch` claims and starts, `worker` sends. `all` is both in one.

They meet in the table of nodes. `dispatch` claims only while a `worker` lives that Novu lets in, so that rows wait as
PENDING, as they do behind a shut gate, and not in Temporal's queue; a worker that is shut out takes its word back.
"""

import socket
from datetime import timedelta
from typing import Literal

import anyio
import psycopg

from dispatcher import __version__, condition
from dispatcher.condition import PARTS, Part
from dispatcher.gate import Gate
from dispatcher.logs import get_logger
from dispatcher.outbox import Outbox
from dispatcher.wake import Wake

Role = Literal["all", "dispatch", "worker"]
PARTS_OF: dict[Role, tuple[Part, ...]] = {
    "all": PARTS,
    "dispatch": PARTS,  # of Novu it knows what the workers say
    "worker": ("postgres", "outbox", "temporal", "novu"),
}
BEAT_SECONDS = 2.0
LOOK_SECONDS = 1.0
BELIEVED = timedelta(seconds=6)
"""How long a worker's last word holds, and how long there may be none: a restart is no outage."""

log = get_logger("roles")


class Presence:
    """What a worker says of itself: it lives, and Novu lets it in."""

    def __init__(self, outbox: Outbox, gate: Gate) -> None:
        self._outbox = outbox
        self._gate = gate

    async def run(self) -> None:
        """Say so again and again; once it is no longer true take it back at once, or rows come that have to go back."""
        while True:
            let_in = self._gate.open
            try:
                if let_in:
                    await self._outbox.beat(role="worker", host=socket.gethostname(), version=__version__, mode="EVENT")
                else:
                    await self._outbox.fall_silent()
                condition.whole("postgres")
            except psycopg.Error as error:  # a right may be missing as well
                condition.broken("postgres", f"{type(error).__name__}: {error}")
            with anyio.move_on_after(BEAT_SECONDS):
                await (self._gate.until_shut() if let_in else anyio.sleep_forever())


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
            condition.whole("novu")
            return
        now = anyio.current_time()
        self._deserted = self._deserted or now
        if now - self._deserted >= BELIEVED.total_seconds():
            condition.broken("novu", "no dispatcher run --role worker lives that Novu lets in; rows wait as PENDING")
