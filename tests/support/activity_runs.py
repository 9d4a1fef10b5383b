"""Runs an activity of claimed rows outside a Temporal server."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.models.notification import RunLimits
from dispatcher.models.workflow_contract import Batch
from tests.support.outbox_fixture import LEASE, OutboxFixture

LIMITS = RunLimits(LEASE, max_runs=8, retry_horizon=timedelta(hours=6))


async def run_activity(
    fixture: OutboxFixture,
    activities: DeliveryActivities,
    ids: Sequence[int],
    *,
    give_up: bool = False,
    local: bool = False,
) -> str:
    """Run `deliver` or `give_up` for the rows of one workflow; return the type of the error that it raised, if any."""
    environment = ActivityEnvironment()
    workflow_id = (await fixture.head(ids[0]))["workflow_id"]
    environment.info = replace(environment.info, workflow_id=workflow_id, is_local=local)
    try:
        await environment.run(activities.give_up if give_up else activities.deliver, Batch(list(ids)))
    except ApplicationError as error:
        return error.type or ""
    return ""
