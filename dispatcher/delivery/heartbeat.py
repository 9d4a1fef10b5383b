"""A worker's heartbeat in the table of nodes: `dispatch` claims only while a worker lives that Novu lets in."""

import socket

import anyio
import psycopg

from dispatcher import __version__
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.telemetry import health

HEARTBEAT_SECONDS = 2.0


class WorkerHeartbeat:
    """What a worker says of itself: it lives, and Novu lets it in."""

    def __init__(self, outbox: OutboxStore, breaker: CircuitBreaker) -> None:
        self._outbox = outbox
        self._breaker = breaker

    async def run(self) -> None:
        """Say so again and again; once it is no longer true take it back at once, or rows come that have to go back."""
        while True:
            let_in = self._breaker.allows_calls
            try:
                if let_in:
                    await self._outbox.heartbeat(
                        role="worker", host=socket.gethostname(), version=__version__, mode="EVENT"
                    )
                else:
                    await self._outbox.withdraw_heartbeat()
                health.report_ok("postgres")
            except psycopg.Error as error:  # a right may be missing as well
                health.report_failure("postgres", f"{type(error).__name__}: {error}")
            with anyio.move_on_after(HEARTBEAT_SECONDS):
                await (self._breaker.wait_tripped() if let_in else anyio.sleep_forever())
