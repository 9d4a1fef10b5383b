"""Measures a burst of many enterprises against a burst of one, with the same number of rows.

Enterprises that cannot fill a batch share batches, so the rate should hardly depend on how the rows are spread.
"""

import time
from dataclasses import dataclass

from bench.block import block
from bench.burst import Burst, final, last_final, warmed_up
from bench.contestants import Contestant
from bench.stack import Say, Stack
from bench.writer import PAYLOAD

SHAPES = (1, 200, 2_000, 20_000)
"""Enterprises among which the rows are divided."""
INSERT = """
    insert into notify.ent_notification
      (name, publish_status, notification_workflow_id, payload, recipients, enterprise_id)
    select 'bench ' || n, 'PUBLISH',
      (select id from notify.ent_notification_workflow where workflow_key = 'default-in-app'),
      %s::jsonb, array[gen_random_uuid()], md5((n %% %s)::text)::uuid
    from generate_series(1, %s) n
"""


@dataclass(frozen=True)
class Shape:
    """The rates of one division of the rows."""

    enterprises: int
    burst: Burst


async def measure(stack: Stack, contestant: Contestant, rows: int, say: Say) -> list[Shape]:
    """Return the rates of each division, measured one after the other, each in a database of its own."""
    found: list[Shape] = []
    for enterprises in SHAPES:
        async with block(stack, contestant) as running:
            await warmed_up(running)
            await running.connection.execute(INSERT, [PAYLOAD, min(enterprises, rows), rows])
            committed = time.time()
            running.written += rows
            await running.accepted(rows / 5)
            accepted = max(request.started_at for request in await running.novu.requests())
            await final(running)
            seconds = (accepted - committed, await last_final(running) - committed)
        found.append(Shape(enterprises, Burst(rows, *(rows / each for each in seconds))))
        say(f"tenants {contestant.name}, {rows} rows of {enterprises}: {rows / seconds[1]:.0f}/s final")
    return found
