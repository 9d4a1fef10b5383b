"""A worker's heartbeat in the table of nodes: `dispatch` claims only while a worker lives that Novu lets in."""

import socket

import anyio
import psycopg

from dispatcher import __version__
from dispatcher.novu.circuit_breaker import Gate
from dispatcher.postgres.outbox import Outbox
from dispatcher.telemetry import health

BEAT_SECONDS = 2.0


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
                health.whole("postgres")
            except psycopg.Error as error:  # a right may be missing as well
                health.broken("postgres", f"{type(error).__name__}: {error}")
            with anyio.move_on_after(BEAT_SECONDS):
                await (self._gate.until_shut() if let_in else anyio.sleep_forever())
