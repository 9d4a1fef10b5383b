"""A worker's heartbeat in the table of nodes. `dispatch` claims only while a worker with a heartbeat exists."""

import socket

import anyio

from dispatcher import __version__
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.periodic import run_every

HEARTBEAT_SECONDS = 2.0


class WorkerHeartbeat:
    """Writes the heartbeat while Novu accepts this worker's calls.

    A worker that Novu refuses deletes its heartbeat, so that `dispatch` stops claiming.
    """

    def __init__(self, outbox: OutboxStore, breaker: CircuitBreaker) -> None:
        self._outbox = outbox
        self._breaker = breaker
        self._written = False

    async def run(self) -> None:
        """Write the heartbeat every two seconds. Delete it as soon as the circuit breaker trips."""
        await run_every(
            HEARTBEAT_SECONDS,
            self._beat,
            component="postgres",
            failure_event="heartbeat_failed",
            end_pause=self._wait_tripped,
        )

    async def _beat(self) -> None:
        self._written = self._breaker.allows_calls
        if self._written:
            await self._outbox.heartbeat(role="worker", host=socket.gethostname(), version=__version__, mode="EVENT")
        else:
            await self._outbox.withdraw_heartbeat()

    async def _wait_tripped(self) -> None:
        """Return when the circuit breaker trips; never if the heartbeat is already deleted."""
        await (self._breaker.wait_tripped() if self._written else anyio.sleep_forever())
