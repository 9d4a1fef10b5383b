"""A rescue whose workflow Temporal does not start."""

from uuid import uuid4

from temporalio.client import Client

from dispatcher.claim.rescuer import Rescuer
from dispatcher.devstack.temporal import TemporalServer
from dispatcher.models.workflow_contract import TaskQueues
from dispatcher.temporal.starter import WorkflowStarter
from dispatcher.wakeup.signal import WakeUp
from tests.support.outbox_fixture import LEASE, OutboxFixture

REFUSED = "x" * 2000
"""A name of a task queue that is too long: the server answers questions, and starts nothing there."""


class HearsNotify:
    """The listener's mode."""

    mode = "EVENT"


def rescuer_of(fixture: OutboxFixture, client: Client, queue: str) -> Rescuer:
    starter = WorkflowStarter(client, TaskQueues(queue, queue))
    return Rescuer(fixture.outbox, starter, WakeUp(), HearsNotify(), interval=LEASE, lease=LEASE)


async def rescued(fixture: OutboxFixture, client: Client, row: int, queue: str) -> int:
    """Rescue a row whose lease ran out; return its attempts."""
    await fixture.expire(row)
    assert (await rescuer_of(fixture, client, queue).run_rescue()).rescued == 1
    head = await fixture.head(row)
    assert head["lease_until"] is not None
    return head["attempts"]


async def test_f189_rescue_that_temporal_refuses_to_start_spends_no_attempt(
    outbox_fixture: OutboxFixture, temporal_server: TemporalServer
):
    client = await Client.connect(temporal_server.address)
    row = await outbox_fixture.notify()
    await outbox_fixture.claim()
    assert [await rescued(outbox_fixture, client, row, REFUSED) for _ in range(3)] == [1, 1, 1]
    assert await rescued(outbox_fixture, client, row, f"q-{uuid4().hex}") == 2


async def test_f189_rescue_keeps_the_attempt_of_a_row_that_it_does_not_start(
    outbox_fixture: OutboxFixture, temporal_server: TemporalServer
):
    """The owner ended one row of the batch: only the other one was rescued."""
    client = await Client.connect(temporal_server.address)
    ended, lost = await outbox_fixture.many(2)
    await outbox_fixture.claim()
    await outbox_fixture.change(ended, notification_status="RETRACTED")
    await outbox_fixture.expire(ended)
    assert await rescued(outbox_fixture, client, lost, REFUSED) == 1
    assert (await outbox_fixture.head(ended))["attempts"] == 1
