"""Recipients that the owner removes from a row between two runs."""

from uuid import UUID

import pytest

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from tests.support.activity_runs import run_activity
from tests.support.outbox_fixture import OutboxFixture

ANA, BO, CY = UUID(int=1), UUID(int=2), UUID(int=3)


async def claimed(outbox_fixture: OutboxFixture, *recipients: UUID) -> int:
    row = await outbox_fixture.notify(recipients=list(recipients))
    await outbox_fixture.claim()
    return row


async def states(outbox_fixture: OutboxFixture, row: int) -> list[tuple[str, str]]:
    return [(entry["state"], entry["outcome"]) for entry in await outbox_fixture.entries(row)]


async def effects(novu: FakeNovu) -> int:
    return sum(effect.accepted for effect in await novu.effects())


@pytest.mark.parametrize("between", ["tries", "runs"])
async def test_f195_removed_recipient_is_not_called_again_and_does_not_count(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, between: str
):
    await novu.add_fault("status", recipient=str(BO), status=503)
    row = await claimed(outbox_fixture, ANA, BO)
    await run_activity(outbox_fixture, activities, [row])
    if between == "runs":
        await run_activity(outbox_fixture, activities, [row], give_up=True)
        await outbox_fixture.rows("update dispatcher.delivery set next_attempt_at = now()")
    await outbox_fixture.change(row, recipients=[ANA])
    await novu.clear_faults()
    await outbox_fixture.claim()
    calls = len(await novu.requests())
    await run_activity(outbox_fixture, activities, [row])
    assert len(await novu.requests()) == calls
    assert await outbox_fixture.status(row) == "SENT"
    assert await states(outbox_fixture, row) == [("accepted", "processed"), ("cancelled", "withdrawn")]
    details = (await outbox_fixture.row(row))["error_details"]
    assert (details["totalRecipients"], details["successCount"], len(details["results"])) == (1, 1, 1)


async def test_f195_removed_recipient_with_an_unknown_outcome_is_resolved(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    row = await claimed(outbox_fixture, ANA)
    await run_activity(outbox_fixture, activities, [row])  # Novu shows that it honours keys
    await novu.add_fault("reset_after", recipient=str(BO), times=1)
    row = await claimed(outbox_fixture, ANA, BO)
    await run_activity(outbox_fixture, activities, [row])
    assert [state for state, _ in await states(outbox_fixture, row)] == ["accepted", "unknown"]
    await outbox_fixture.change(row, recipients=[ANA])
    await run_activity(outbox_fixture, activities, [row])
    assert await states(outbox_fixture, row) == [("accepted", "processed")] * 2
    assert (await outbox_fixture.status(row), await effects(novu)) == ("SENT", 3)


async def test_f195_recipient_that_is_added_again_is_called(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    for recipient in (BO, CY):
        await novu.add_fault("status", recipient=str(recipient), status=503)
    row = await claimed(outbox_fixture, ANA, BO, CY)
    await run_activity(outbox_fixture, activities, [row])
    await outbox_fixture.change(row, recipients=[ANA, CY])
    await run_activity(outbox_fixture, activities, [row])
    assert ("cancelled", "withdrawn") in await states(outbox_fixture, row)
    await outbox_fixture.change(row, recipients=[ANA, BO, CY])
    await novu.clear_faults()
    await run_activity(outbox_fixture, activities, [row])
    assert (await outbox_fixture.status(row), await effects(novu)) == ("SENT", 3)


async def test_f195_row_without_any_recipient_left_fails_without_a_call(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await novu.add_fault("status", status=503)
    row = await claimed(outbox_fixture, ANA)
    await run_activity(outbox_fixture, activities, [row])
    await outbox_fixture.change(row, recipients=[])
    calls = len(await novu.requests())
    await run_activity(outbox_fixture, activities, [row])
    assert len(await novu.requests()) == calls
    assert await outbox_fixture.status(row) == "FAILED"
    assert (await outbox_fixture.head(row))["last_error"] == "recipients are empty"
