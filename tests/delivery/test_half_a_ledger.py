"""One of the ledger's two tables lost rows: outcomes that it cannot prove are asked for at Novu."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.notification import RecipientState
from tests.support.activity_runs import run_activity
from tests.support.outbox_fixture import OutboxFixture, calls_of, ids_of, members_of


async def sent(outbox_fixture: OutboxFixture, activities: DeliveryActivities, recipients: int = 1) -> int:
    """Send a row to so many recipients."""
    row = await outbox_fixture.notify(recipients=[uuid4() for _ in range(recipients)])
    await outbox_fixture.claim()
    await run_activity(outbox_fixture, activities, [row])
    assert await outbox_fixture.status(row) == "SENT"
    return row


async def age_calls(outbox_fixture: OutboxFixture) -> None:
    """Make the recorded calls so old that Novu cannot be working on them."""
    await outbox_fixture.rows("update dispatcher.recipient set last_called_at = last_called_at - interval '1 minute'")


async def accepted(novu: FakeNovu) -> list[int]:
    """Return how often Novu accepted each trigger."""
    return [effect.accepted for effect in await novu.effects()]


async def states(outbox_fixture: OutboxFixture, row: int) -> Sequence[str]:
    return [entry["state"] for entry in await outbox_fixture.entries(row)]


async def test_f193_resend_without_its_ledger_head_is_never_sent_without_a_call(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    row = await sent(outbox_fixture, activities)
    await outbox_fixture.rows("delete from dispatcher.delivery")
    await outbox_fixture.change(row, notification_status="PENDING")
    await age_calls(outbox_fixture)
    before = len(await novu.requests())
    assert ids_of(await outbox_fixture.claim()) == [row]
    await run_activity(outbox_fixture, activities, [row])
    assert len(await novu.requests()) > before
    assert await outbox_fixture.status(row) == "SENT"
    assert await accepted(novu) == [1]


async def test_f193_row_without_its_ledger_head_is_sent_if_novu_does_not_know_it(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)  # only our ledger says so
    await outbox_fixture.rows("delete from dispatcher.delivery")
    await outbox_fixture.change(row.id, notification_status="PENDING")
    await age_calls(outbox_fixture)
    await outbox_fixture.claim()
    await run_activity(outbox_fixture, activities, [row.id])
    assert await accepted(novu) == [1, 1]
    assert await outbox_fixture.status(row.id) == "SENT"


@pytest.mark.parametrize("keys", [True, False])
async def test_f193_retry_without_its_recipients_in_the_ledger_is_looked_up_first(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, *, keys: bool
):
    row = await sent(outbox_fixture, activities, 2)
    await outbox_fixture.rows("delete from dispatcher.recipient where ordinal = 0")
    await outbox_fixture.rows(
        "update dispatcher.delivery set next_attempt_at = now(), first_claimed_at = now() - interval '1 hour'"
    )
    await outbox_fixture.change(row, notification_status="FAILED")
    if not keys:
        await novu.configure(idempotency=False)
    assert ids_of(await outbox_fixture.claim()) == [row]
    await run_activity(outbox_fixture, activities, [row])
    assert await accepted(novu) == [1, 1]
    assert await outbox_fixture.status(row) == "SENT"


async def test_f193_retraction_without_the_ledger_head_is_cancelled_at_novu(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    await outbox_fixture.rows("delete from dispatcher.delivery")
    await outbox_fixture.change(row.id, notification_status="RETRACTED")
    assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}


async def test_f193_complete_ledger_is_believed(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row)[:2])  # the third was not called yet
    row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, RecipientState.UNKNOWN
    await outbox_fixture.outbox.settle(members_of(row)[:2], [])
    wanted = [RecipientState.ACCEPTED, RecipientState.UNKNOWN, RecipientState.PLANNED]
    [again] = await outbox_fixture.acquire(row.id)
    assert [recipient.state for recipient in again.recipients] == wanted
    await outbox_fixture.outbox.release([again])
    await outbox_fixture.claim()
    [again] = await outbox_fixture.acquire(row.id)
    assert [recipient.state for recipient in again.recipients] == wanted
