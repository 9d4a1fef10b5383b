"""PgQueuer with the same job: the writer's transaction enqueues it, PgQueuer's own trigger sends the NOTIFY.

Its psycopg driver locks its connection while it listens, which delays every statement by up to a second. Here it gets a
second connection; with it, it is as fast as with its asyncpg driver.
"""

import asyncio
import os

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job as QueuedJob
from pgqueuer.ports.driver import NotifyCallback
from pgqueuer.queries import Queries
from psycopg import AsyncConnection

from bench.peer_job import CONCURRENCY, Job

ENTRYPOINT = "deliver"


async def prepare(url: str) -> None:
    """Create PgQueuer's tables."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await Queries.from_psycopg_connection(connection).install()


async def announce(connection: AsyncConnection, ids: list[int], recipients: list[str]) -> None:  # noqa: ARG001
    """Enqueue all in one statement, in the writer's transaction."""
    payloads: list[bytes | None] = [str(notification_id).encode() for notification_id in ids]
    await Queries(PsycopgDriver(connection)).enqueue([ENTRYPOINT] * len(ids), payloads, [0] * len(ids))


async def main() -> None:
    """Serve until the process is ended."""
    job = Job()
    await job.open()
    queuer = await connect()

    @queuer.entrypoint(ENTRYPOINT)
    async def deliver(queued: QueuedJob) -> None:  # pyright: ignore[reportUnusedFunction]
        await job(int(queued.payload or b"0"))

    print("ready", flush=True)
    await queuer.run(batch_size=CONCURRENCY, max_concurrent_tasks=2 * CONCURRENCY)


class TwoConnections(PsycopgDriver):
    """PgQueuer's psycopg driver, with its own connection for LISTEN."""

    def __init__(self, statements: AsyncConnection, listening: AsyncConnection) -> None:
        super().__init__(statements)
        self._listener = PsycopgDriver(listening)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listen on the second connection."""
        await self._listener.add_listener(channel, callback)

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Stop listening."""
        await self._listener.remove_listener(channel, callback)


async def connect() -> PgQueuer:
    """Return PgQueuer with its two connections."""
    url = os.environ["DATABASE_URL"]
    connections = [await AsyncConnection.connect(url, autocommit=True) for _ in range(2)]
    return PgQueuer(TwoConnections(*connections))


if __name__ == "__main__":
    asyncio.run(main())
