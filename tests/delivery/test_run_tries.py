"""The workflow's count of tries, against a real Temporal: over the whole run, whatever ended a single activity."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from dispatcher.delivery.activities import retry_error
from dispatcher.delivery.workflows import MAX_ATTEMPTS, NotificationDelivery
from dispatcher.devstack.temporal import TemporalServer
from dispatcher.models.notification import Recipient
from dispatcher.models.workflow_contract import DELIVER, GIVE_UP, Batch, ResultCounts, batch_queue
from tests.support.waits import eventually

THROTTLED_TRY, FAILED_TRY = True, False


@dataclass
class ScriptedDeliveries:
    """Activities that end as a script says; after it, every try fails."""

    script: list[bool] = field(default_factory=list[bool])
    failed_tries: int = 0
    given_up: int = 0

    @activity.defn(name=DELIVER)
    async def deliver(self, batch: Batch) -> ResultCounts:
        """End with the error that the real activity raises for such a recipient."""
        throttled = self.script.pop(0) if self.script else FAILED_TRY
        self.failed_tries += not throttled
        raise retry_error([Recipient("ana", 0, "tx", retry_after=0.01, throttled=throttled)])

    @activity.defn(name=GIVE_UP)
    async def give_up(self, batch: Batch) -> ResultCounts:
        """Count it."""
        self.given_up += 1
        return ResultCounts(failed=len(batch.notification_ids))


async def connected(server: TemporalServer) -> Client | None:
    """Return a client; None: the server is not ready yet."""
    try:
        return await Client.connect(server.address)
    except RuntimeError:
        return None


async def run_script(server: TemporalServer, script: Sequence[bool], *, batch: bool) -> ScriptedDeliveries:
    """Run one workflow on these activities to its end."""
    deliveries = ScriptedDeliveries(list(script))
    client = await eventually(lambda: connected(server), "a client: the server may have just begun to listen")
    first = f"tries-{uuid4()}"
    workers = [
        Worker(
            client,
            task_queue=queue,
            workflows=[NotificationDelivery],
            activities=[deliveries.deliver, deliveries.give_up],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        for queue in (first, batch_queue(first))
    ]
    async with workers[0], workers[1]:
        await client.execute_workflow(
            NotificationDelivery.run,
            Batch([1]),
            id=first,
            task_queue=batch_queue(first) if batch else first,
            execution_timeout=timedelta(seconds=60),
        )
    return deliveries


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        [FAILED_TRY, THROTTLED_TRY],
        [FAILED_TRY, FAILED_TRY, THROTTLED_TRY, FAILED_TRY, THROTTLED_TRY],
        [THROTTLED_TRY, FAILED_TRY, FAILED_TRY, FAILED_TRY, FAILED_TRY, THROTTLED_TRY],
    ],
)
async def test_f171_throttled_try_does_not_give_failed_ones_back(
    temporal_server: TemporalServer, script: list[bool], *, batch: bool
):
    deliveries = await run_script(temporal_server, script, batch=batch)
    assert (deliveries.failed_tries, deliveries.given_up) == (MAX_ATTEMPTS, 1)
