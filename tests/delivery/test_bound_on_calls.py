"""The bound on the calls of a row and generation, and rows that Novu throttled until their run ended."""

import pytest

from dispatcher.decisions.backoff import CALLS_PER_RUN
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.workflow_contract import THROTTLED, UNSETTLED
from dispatcher.novu.client import NovuClient
from tests.support.activity_runs import LIMITS, run_activity
from tests.support.outbox_fixture import OutboxFixture


async def claimed(fixture: OutboxFixture) -> int:
    row = await fixture.notify()
    await fixture.claim()
    return row


@pytest.mark.parametrize("status", [409, 429])
async def test_f171_throttled_row_is_handed_back_and_spends_no_run(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, status: int
):
    await novu.add_fault("status", status=status)
    row = await claimed(outbox_fixture)
    assert await run_activity(outbox_fixture, activities, [row]) == THROTTLED
    [entry] = await outbox_fixture.entries(row)
    assert (entry["attempts"], entry["outcome"]) == (0, f"http_{status}")
    await run_activity(outbox_fixture, activities, [row], give_up=True)
    assert await outbox_fixture.status(row) == "PENDING"
    assert (await outbox_fixture.head(row))["attempts"] == 0


async def test_f171_failed_row_spends_its_run(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await novu.add_fault("status", status=503)
    row = await claimed(outbox_fixture)
    assert await run_activity(outbox_fixture, activities, [row]) == UNSETTLED
    [entry] = await outbox_fixture.entries(row)
    assert entry["attempts"] == 1
    await run_activity(outbox_fixture, activities, [row], give_up=True)
    assert await outbox_fixture.status(row) == "FAILED"


async def test_f171_call_that_never_left_is_not_counted(outbox_fixture: OutboxFixture):
    client = NovuClient("key", "http://127.0.0.1:1")
    row = await claimed(outbox_fixture)
    assert (
        await run_activity(outbox_fixture, DeliveryActivities(outbox_fixture.outbox, client, LIMITS), [row])
        == UNSETTLED
    )
    await client.aclose()
    [entry] = await outbox_fixture.entries(row)
    assert (entry["attempts"], entry["outcome"]) == (0, "not_sent")


async def test_f171_generation_with_too_many_calls_ends(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await novu.add_fault("status", status=503)
    row = await claimed(outbox_fixture)
    await run_activity(outbox_fixture, activities, [row])
    most = CALLS_PER_RUN * LIMITS.max_runs
    await outbox_fixture.rows("update dispatcher.recipient set attempts = %s", most)
    assert await run_activity(outbox_fixture, activities, [row]) == ""
    assert await outbox_fixture.status(row) == "FAILED"
    head = await outbox_fixture.head(row)
    assert head["dead_lettered_at"] is not None
    assert head["last_error"] == f"{most} calls ended without a final answer"
    assert await novu.fault_counts() == [1]
