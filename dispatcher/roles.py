"""A dispatcher in two kinds of process: `dispatch` claims and starts, `worker` sends. `all` is both in one.

They meet in the table of nodes. `dispatch` claims only while a `worker` lives that Novu lets in, so that rows wait as
PENDING, as they do behind a shut gate, and not in Temporal's queue; a worker that is shut out says nothing of itself.
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
    "worker": ("postgres", "temporal", "novu"),
}
BEAT_SECONDS = 2.0
LOOK_SECONDS = 1.0
BELIEVED = timedelta(seconds=6)
"""How long a worker's last word holds."""

log = get_logger("roles")


class Presence:
    """What a worker says of itself: it lives, and Novu lets it in."""

    def __init__(self, outbox: Outbox, gate: Gate) -> None:
        self._outbox = outbox
        self._gate = gate

    async def run(self) -> None:
        """Say so again and again, as long as it is true."""
        while True:
            try:
                if self._gate.open:
                    await self._outbox.beat(role="worker", host=socket.gethostname(), version=__version__, mode="EVENT")
                else:
                    await self._outbox.in_flight()  # then PostgreSQL is only asked whether it is there
                condition.whole("postgres")
            except psycopg.Error as error:  # a right may be missing as well
                condition.broken("postgres", f"{type(error).__name__}: {error}")
            await anyio.sleep(BEAT_SECONDS)


class Workforce:
    """What `dispatch` knows of the workers; `open` as the gate of a process that is both."""

    def __init__(self, outbox: Outbox) -> None:
        self.open = False
        self._outbox = outbox

    async def run(self, wake: Wake) -> None:
        """Look whether there are any; wake the door when there are again."""
        while True:
            try:
                self._learn(await self._outbox.has_worker(BELIEVED), wake)
            except psycopg.Error:
                self.open = False  # whoever claims meets the same, and says it
            await anyio.sleep(LOOK_SECONDS)

    def _learn(self, staffed: bool, wake: Wake) -> None:  # noqa: FBT001  (what was learned)
        if staffed and not self.open:
            log.info("workers_found")
            wake.ring("other")
        self.open = staffed
        if staffed:
            condition.whole("novu")
        else:
            condition.broken("novu", "no dispatcher run --role worker lives that Novu lets in; rows wait as PENDING")
