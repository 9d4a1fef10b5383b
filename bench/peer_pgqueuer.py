"""PgQueuer doing the same job: enqueued by the writer's transaction, woken by its own trigger."""

import asyncio
import os

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job as QueuedJob
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
    queuer = await connected()

    @queuer.entrypoint(ENTRYPOINT)
    async def deliver(queued: QueuedJob) -> None:  # pyright: ignore[reportUnusedFunction]
        await job(int(queued.payload or b"0"))

    print("ready", flush=True)
    await queuer.run(batch_size=CONCURRENCY, max_concurrent_tasks=2 * CONCURRENCY)


async def connected() -> PgQueuer:
    """Return PgQueuer on the faster of its drivers that is there."""
    url = os.environ["DATABASE_URL"]
    try:
        import asyncpg  # noqa: PLC0415
    except ImportError:
        return PgQueuer.from_psycopg_connection(await psycopg.AsyncConnection.connect(url, autocommit=True))
    return PgQueuer.from_asyncpg_pool(await asyncpg.create_pool(url, min_size=2, max_size=8))


if __name__ == "__main__":
    asyncio.run(main())
