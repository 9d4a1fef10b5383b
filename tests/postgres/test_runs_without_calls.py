"""Runs that make no call to Novu: their rows were lost before it, or had too many runs already."""

import dataclasses
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.delivery.sender import Sender
from dispatcher.models.notification import RunLimits
from dispatcher.models.workflow_contract import Batch, ResultCounts
from dispatcher.novu.client import NovuClient
from tests.support.outbox_fixture import INELIGIBLE, LEASE, OutboxFixture

MAX_RUNS = 3


@pytest.fixture
async def unreachable_novu() -> NovuClient:
    """A client whose calls would all fail."""
    return NovuClient("key", "http://127.0.0.1:9")


@pytest.mark.parametrize("change", ["unpublished", "deactivated", "rescheduled"])
async def test_row_lost_before_its_call_is_released_at_once(
    outbox_fixture: OutboxFixture, unreachable_novu: NovuClient, change: str
):
    row = await outbox_fixture.acquired()
    await outbox_fixture.change(row.id, **INELIGIBLE[change])
    await ActivityEnvironment().run(Sender(outbox_fixture.outbox, unreachable_novu, timedelta(minutes=5)).send, [row])
    head = await outbox_fixture.head(row.id)
    assert (head["lease_until"], head["attempts"], await outbox_fixture.status(row.id)) == (None, 0, "PENDING")
    assert await outbox_fixture.entries(row.id) == []


@pytest.mark.parametrize("runs", [MAX_RUNS, MAX_RUNS + 1])
async def test_row_whose_runs_end_without_outcome_ends_after_max_runs(
    outbox_fixture: OutboxFixture, unreachable_novu: NovuClient, runs: int
):
    row = await outbox_fixture.notify()
    await outbox_fixture.claim()
    await outbox_fixture.rows("update dispatcher.delivery set attempts = %s", runs)
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        environment.info, workflow_id=(await outbox_fixture.head(row))["workflow_id"]
    )
    limits = RunLimits(LEASE, max_runs=MAX_RUNS, retry_horizon=timedelta(hours=6))
    activities = DeliveryActivities(outbox_fixture.outbox, unreachable_novu, limits)
    if runs <= MAX_RUNS:  # the last run is still made
        with pytest.raises(Exception, match="recipients are not settled"):
            await environment.run(activities.deliver, Batch([row]))
        return
    assert await environment.run(activities.deliver, Batch([row])) == ResultCounts(failed=1)
    head = await outbox_fixture.head(row)
    assert (head["next_attempt_at"], head["last_error"]) == (None, f"{MAX_RUNS} runs ended without an outcome")
    assert head["dead_lettered_at"] is not None
    assert await outbox_fixture.entries(row) == []
    assert await outbox_fixture.status(row) == "FAILED"
