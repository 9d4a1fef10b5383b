"""The job that both peers run for a row: load it, trigger Novu for its recipient, mark it SENT.

The minimum that a careful user of a job queue would write: no ledger, no fence, no check for retraction.
"""

import os

from psycopg_pool import AsyncConnectionPool

from bench.novu_client import Trigger

CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "16"))
"""Concurrent jobs. More of them only wait: the CPU time of novu-py limits a process."""

LOAD = """
    select w.workflow_key, n.recipients[1]::text, n.payload::text
    from notify.ent_notification n join notify.ent_notification_workflow w on w.id = n.notification_workflow_id
    where n.id = %s and n.notification_status = 'PENDING'
"""
MARK = """
    update notify.ent_notification
    set notification_status = 'SENT', processed_at = clock_timestamp(), updated_at = clock_timestamp()
    where id = %s
"""


class Job:
    """The job, with its connection pool and its client of Novu."""

    def __init__(self) -> None:
        self._pool = AsyncConnectionPool(
            os.environ["DATABASE_URL"], min_size=2, max_size=8, open=False, kwargs={"autocommit": True}
        )
        self._trigger = Trigger()

    async def open(self) -> None:
        """Connect."""
        await self._pool.open(wait=True)

    async def __call__(self, notification_id: int) -> None:
        """Deliver one row."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(LOAD, [notification_id])).fetchone()
        if row is None:
            return
        await self._trigger(*row)
        async with self._pool.connection() as connection:
            await connection.execute(MARK, [notification_id])
