"""A row keeps its identity whatever its owner writes into `created_at`."""

from datetime import timedelta
from uuid import uuid4

import pytest

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import Notification, RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, members_of

MENDED = ["2001-01-01", "2999-01-01"]
PARTLY = (RecipientState.ACCEPTED, RecipientState.UNKNOWN)


async def half_sent(outbox_fixture: OutboxFixture) -> Notification:
    """Return a row in work of which Novu accepted the first recipient."""
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = PARTLY
    await outbox_fixture.outbox.settle(members_of(row), [])
    return row


async def is_as_before(outbox_fixture: OutboxFixture, row: Notification) -> bool:
    """Claim and acquire the row; return whether generation, transactionIds and states are those of `row`."""
    workflow_id = (await outbox_fixture.head(row.id))["workflow_id"]
    claim = await outbox_fixture.claim()
    assert ids_of(claim) == [row.id]
    [again] = await outbox_fixture.acquire(row.id)
    ids = [[recipient.transaction_id for recipient in each.recipients] for each in (row, again)]
    states = tuple(recipient.state for recipient in again.recipients)
    return (again.generation, claim.starts[0].workflow_id, ids[1], states) == (1, workflow_id, ids[0], PARTLY)


@pytest.mark.parametrize("created_at", MENDED)
async def test_f192_failed_row_with_another_created_at_is_retried_in_its_generation(
    outbox_fixture: OutboxFixture, created_at: str
):
    row = await half_sent(outbox_fixture)
    row.final_status = decide_status(row, timedelta(0))
    await outbox_fixture.outbox.settle([], [row])
    await outbox_fixture.change(row.id, created_at=created_at)
    assert await is_as_before(outbox_fixture, row)


@pytest.mark.parametrize("created_at", MENDED)
async def test_f192_handed_back_row_with_another_created_at_keeps_its_generation(
    outbox_fixture: OutboxFixture, created_at: str
):
    row = await half_sent(outbox_fixture)
    await outbox_fixture.outbox.release([row])
    await outbox_fixture.change(row.id, created_at=created_at)
    assert await is_as_before(outbox_fixture, row)


async def test_f192_rescued_row_with_another_created_at_keeps_its_generation(outbox_fixture: OutboxFixture):
    row = await half_sent(outbox_fixture)
    await outbox_fixture.change(row.id, created_at="2001-01-01")
    await outbox_fixture.expire(row.id)
    [late] = await outbox_fixture.outbox.find_expired(10)
    assert await outbox_fixture.outbox.rescue(late, LEASE) is not None
    [again] = await outbox_fixture.acquire(row.id)
    assert [each.transaction_id for each in again.recipients] == [each.transaction_id for each in row.recipients]


@pytest.mark.parametrize(
    "trace", [{}, {"error_details": None}, {"transaction_id": None}], ids=["both", "transaction_id", "error_details"]
)
async def test_f192_all_generations_of_a_row_with_another_created_at_are_retracted(
    outbox_fixture: OutboxFixture, trace: dict[str, None]
):
    first = await outbox_fixture.acquired()
    await outbox_fixture.settle(first, RecipientState.ACCEPTED)
    await outbox_fixture.change(first.id, created_at="2999-01-01", notification_status="PENDING", **trace)
    await outbox_fixture.claim()
    [second] = await outbox_fixture.acquire(first.id)
    await outbox_fixture.settle(second, RecipientState.ACCEPTED)
    await outbox_fixture.change(first.id, notification_status="RETRACTED")
    assert second.generation == 2
    assert await outbox_fixture.outbox.detect_retracted(10) == {first.id: 2}


async def test_f192_retraction_leaves_the_generations_of_an_earlier_row_alone(outbox_fixture: OutboxFixture):
    earlier = await outbox_fixture.acquired(created_at="2020-01-01")
    await outbox_fixture.settle(earlier, RecipientState.ACCEPTED)
    await outbox_fixture.rows("delete from notify.ent_notification")
    row = await outbox_fixture.acquired(id=earlier.id, created_at="2020-01-02", transaction_id="theirs")
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    await outbox_fixture.change(row.id, notification_status="RETRACTED")
    assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}


async def test_f192_ledger_of_a_row_deleted_in_work_ends_with_its_lease(outbox_fixture: OutboxFixture):
    earlier = await half_sent(outbox_fixture)
    await outbox_fixture.rows("delete from notify.ent_notification")
    await outbox_fixture.expire(earlier.id)
    [late] = await outbox_fixture.outbox.find_expired(10)
    assert await outbox_fixture.outbox.rescue(late, LEASE) is None
    again = await outbox_fixture.acquired(id=earlier.id, recipients=[each.id for each in earlier.recipients])
    assert again.generation == 2
    assert {recipient.state for recipient in again.recipients} == {RecipientState.PLANNED}
