"""Measures a burst of many enterprises beside one of one enterprise. Each has a database of its own."""

import time

from bench.block import Block, block
from bench.burst import final, last_final, warmed_up
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.stack import Stack
from bench.writer import PAYLOAD

INSERT = """
    insert into notify.ent_notification
      (name, publish_status, notification_workflow_id, payload, recipients, enterprise_id)
    select 'bench ' || n, 'PUBLISH',
      (select id from notify.ent_notification_workflow where workflow_key = 'default-in-app'),
      %s::jsonb, array[gen_random_uuid()], md5((n %% %s)::text)::uuid
    from generate_series(1, %s) n
"""
ROWS_PER_SECOND = 5
"""A slower contestant is given up."""


def figure(enterprises: int, rows: int) -> str:
    """Return the name of the figure of one shape."""
    return f"final, {enterprises:,} x {rows:,}"


async def one_block(stack: Stack, contestant: Contestant, shapes: tuple[tuple[int, int], ...]) -> Values:
    """Return the rate of each shape, enterprises x rows."""
    values: Values = {}
    for enterprises, rows in shapes:
        async with block(stack, contestant) as running:
            await warmed_up(running)
            rate = await rows_per_second(running, enterprises, enterprises * rows)
        values[figure(enterprises, rows)] = Value(rate, "rows/s", Better.HIGHER)
    return values


async def rows_per_second(running: Block, enterprises: int, rows: int) -> float:
    """Write `rows` rows of `enterprises` enterprises in one statement; return the rate until all were final."""
    await running.connection.execute(INSERT, [PAYLOAD, enterprises, rows])
    committed = time.time()
    running.written += rows
    await running.accepted(30 + rows / ROWS_PER_SECOND)
    await final(running)
    return rows / (await last_final(running) - committed)
