"""Measures an urgent row behind a backlog: one of the backlog's own enterprise, and one of another enterprise.

Both rows have the priority `critical` and are committed right after the backlog. A burst of few rows is the yardstick:
an urgent row behind many should take no longer.
"""

import time
import uuid

from bench.block import Block, block
from bench.burst import burst, final, warmed_up
from bench.contestants import Contestant
from bench.figures import Value, Values
from bench.stack import Stack
from bench.writer import ENTERPRISE, PAYLOAD

SAME, OTHER, BACKLOG, REFERENCE = (
    "urgent row, same enterprise",
    "urgent row, another enterprise",
    "the whole backlog",
    "a burst of few rows",
)
ANOTHER = uuid.UUID("b7a4c2d8-6f05-4a38-8c1b-90f1d2e3a4b5")
INSERT = """
    insert into notify.ent_notification
      (name, publish_status, notification_workflow_id, payload, recipients, enterprise_id, typ_notification_priority_id)
    select 'urgent ' || %s::text, 'PUBLISH', id, %s::jsonb, array[%s::uuid], %s::uuid,
      (select id from notify.typ_notification_priority where code = 'critical')
    from notify.ent_notification_workflow where workflow_key = 'default-in-app'
"""
ROWS_PER_SECOND = 100
"""A slower contestant is given up."""


async def one_block(stack: Stack, contestant: Contestant, backlog: int, reference: int) -> Values:
    """Return the seconds from commit to Novu's request of both urgent rows, of the backlog and of the yardstick."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        few = reference / (await burst(running, reference)).accepted_per_second
        written = await running.write(backlog)
        urgent = {name: await urgent_row(running, of) for name, of in ((SAME, ENTERPRISE), (OTHER, ANOTHER))}
        await running.accepted(30 + backlog / ROWS_PER_SECOND)
        await final(running)
        arrived = {
            subscriber: request.started_at
            for request in reversed(await running.novu.requests())
            for subscriber in request.subscribers
        }
    whole = max(arrived[recipient] for recipient in written.recipients) - written.committed
    seconds = {name: arrived[recipient] - committed for name, (recipient, committed) in urgent.items()}
    return {name: Value(amount, "s") for name, amount in {**seconds, BACKLOG: whole, REFERENCE: few}.items()}


async def urgent_row(running: Block, enterprise: uuid.UUID) -> tuple[str, float]:
    """Write one urgent row; return its recipient and when its commit returned."""
    recipient = uuid.uuid4()
    await running.connection.execute(INSERT, [str(recipient), PAYLOAD, recipient, enterprise])
    running.written += 1
    return str(recipient), time.time()
