"""Procrastinate with the same job: the writer's transaction defers it, Procrastinate's own trigger sends the NOTIFY."""

import asyncio
import os

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONDict
from psycopg import AsyncConnection

from bench.peer_job import CONCURRENCY, Job

TASK = "deliver"


def app(url: str) -> App:
    """Return an app on the database at `url`."""
    return App(connector=PsycopgConnector(conninfo=url, min_size=2, max_size=8))


async def prepare(url: str) -> None:
    """Create Procrastinate's tables and functions."""
    async with app(url).open_async() as opened:
        await opened.schema_manager.apply_schema_async()


async def announce(connection: AsyncConnection, ids: list[int], recipients: list[str]) -> None:  # noqa: ARG001
    """Defer all in one statement, in the writer's transaction."""
    deferrer = WRITERS_APP.configure_task(TASK, connection=connection)
    jobs: list[JSONDict] = [{"notification_id": notification_id} for notification_id in ids]
    await deferrer.batch_defer_async(*jobs)


async def main() -> None:
    """Serve until the process is ended."""
    job = Job()
    await job.open()
    worker = app(os.environ["DATABASE_URL"])

    @worker.task(name=TASK)
    async def deliver(notification_id: int) -> None:  # pyright: ignore[reportUnusedFunction]
        await job(notification_id)

    async with worker.open_async():
        print("ready", flush=True)
        await worker.run_worker_async(concurrency=CONCURRENCY)


WRITERS_APP = app("")

if __name__ == "__main__":
    asyncio.run(main())
