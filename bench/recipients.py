"""Measures one row of very many recipients: events per second until Novu has accepted all, and the process's memory."""

import time
import uuid

from bench.block import Block, block, until
from bench.burst import warmed_up
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.idle import memory_mb
from bench.stack import Stack
from bench.writer import ENTERPRISE, PAYLOAD

INSERT = """
    insert into notify.ent_notification
      (name, publish_status, notification_workflow_id, payload, recipients, enterprise_id)
    select 'bench of many ' || gen_random_uuid(), 'PUBLISH', id, %s::jsonb, %s::uuid[], %s
    from notify.ent_notification_workflow where workflow_key = 'default-in-app'
"""
EVENTS_PER_SECOND = 50
"""A slower contestant is given up."""
FINAL = "select count(*) from notify.ent_notification where notification_status not in ('PENDING', 'PROCESSING')"


def figures(recipients: int) -> tuple[str, str]:
    """Return the names of the rate and of the memory for a row of so many recipients."""
    return f"row of {recipients:,} recipients", f"memory, {recipients:,} recipients"


async def one_block(stack: Stack, contestant: Contestant, sizes: tuple[int, ...]) -> Values:
    """Return the rate of a row of each size, and the peak of the process's memory until then, smallest row first."""
    values: Values = {}
    async with block(stack, contestant) as running:
        await warmed_up(running)
        for rows, size in enumerate(sizes, start=running.written + 1):
            rate, memory = figures(size)
            values[rate] = Value(await events_per_second(running, size, rows), "events/s", Better.HIGHER)
            values[memory] = Value(memory_mb(running.process.pid, "VmHWM"), "MB")
    return values


async def events_per_second(running: Block, size: int, rows: int) -> float:
    """Write one row of `size` recipients; return its rate once the table has `rows` final rows."""
    recipients = [uuid.uuid4() for _ in range(size)]
    await running.connection.execute(INSERT, [PAYLOAD, recipients, ENTERPRISE])
    committed = time.time()
    running.written += size  # the fake Novu counts recipients
    await running.accepted(30 + size / EVENTS_PER_SECOND)
    accepted = max(request.started_at for request in await running.novu.requests())

    async def row_is_final() -> bool:
        [count] = await (await running.connection.execute(FINAL)).fetchone() or [0]
        return count >= rows

    await until(row_is_final, 60, f"{running.contestant.name}: a row of {size} recipients final")
    return size / (accepted - committed)
