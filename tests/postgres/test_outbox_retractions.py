"""Retractions in the ledger: detected by the status alone, once no run works on the row; cancelled by one caller."""

import asyncio
from datetime import timedelta
from typing import Any, Literal

import pytest

from dispatcher.claim.foreign_statuses import ForeignStatuses
from dispatcher.decisions.cancellation import GIVEN_UP, STOPPED
from dispatcher.models.notification import Notification, PendingCancel, RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, members_of

RETRACT = {"notification_status": "RETRACTED"}
QUERIES: tuple[Literal["detect_retracted", "acquire_cancels"], ...] = ("detect_retracted", "acquire_cancels")


async def sent(outbox_fixture: OutboxFixture, **columns: Any) -> Notification:
    """Send a notification."""
    row = await outbox_fixture.acquired(**columns)
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    return row


async def retracted(outbox_fixture: OutboxFixture, **columns: Any) -> Notification:
    """Send a notification, retract it, and notice that."""
    row = await sent(outbox_fixture, **columns)
    await outbox_fixture.change(row.id, **RETRACT)
    assert row.id in await outbox_fixture.outbox.detect_retracted(10)
    return row


async def details(outbox_fixture: OutboxFixture, notification_id: int) -> Any:
    return (await outbox_fixture.row(notification_id))["error_details"]


def over(cancel: PendingCancel) -> PendingCancel:
    """Return the cancel as it ends when Novu did it."""
    cancel.state, cancel.outcome = RecipientState.CANCELLED, STOPPED
    return cancel


class TestDetectRetracted:
    async def test_retraction_of_an_unclaimed_row_is_detected_once(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.notify(**RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row: 0}
        assert await outbox_fixture.outbox.detect_retracted(10) == {}
        assert list(await details(outbox_fixture, row)) == ["retraction"]
        assert await outbox_fixture.value(
            "select retracted_at is not null from notify.ent_notification where id = %s", row
        )

    async def test_accepted_and_unknown_recipients_are_to_be_cancelled(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired(recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(4)])
        states = (RecipientState.ACCEPTED, RecipientState.UNKNOWN, RecipientState.REFUSED, RecipientState.SENDING)
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        for recipient, state in zip(row.recipients, states, strict=True):
            await outbox_fixture.rows(
                "update dispatcher.recipient set state = %s where recipient = %s", state, recipient.id
            )
        await outbox_fixture.change(row.id, **RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 3}
        assert [entry["cancel_at"] is not None for entry in await outbox_fixture.entries(row.id)] == [
            True,
            True,
            False,
            True,
        ]

    async def test_details_written_by_the_owner_stay(self, outbox_fixture: OutboxFixture):
        row = await sent(outbox_fixture)
        before = await details(outbox_fixture, row.id)
        await outbox_fixture.rows(
            "update notify.ent_notification set notification_status = 'RETRACTED', retracted_at = '2999-01-01',"
            " retraction_reason = 'wrong lift' where id = %s",
            row.id,
        )
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}
        [[reason, at]] = await outbox_fixture.rows(
            "select retraction_reason, retracted_at::text from notify.ent_notification where id = %s", row.id
        )
        assert (reason, at[:10]) == ("wrong lift", "2999-01-01")
        after = await details(outbox_fixture, row.id)
        assert after.pop("retraction")
        assert after == before

    @pytest.mark.parametrize("odd", ['"words"', "[1]", "null", "3"])
    async def test_details_that_are_no_object_are_replaced(self, outbox_fixture: OutboxFixture, odd: str):
        row = await outbox_fixture.notify(**RETRACT, error_details=odd)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row: 0}
        assert list(await details(outbox_fixture, row)) == ["retraction"]

    async def test_retraction_of_a_leased_row_waits_for_its_release(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.outbox.record_calls(calls_of(row))
        await outbox_fixture.change(row.id, **RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {}
        assert "retraction" not in (await details(outbox_fixture, row.id) or {})
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}
        head = await outbox_fixture.head(row.id)
        assert (head["settled_at"] is not None, head["next_attempt_at"]) == (True, None)
        assert head["fence"] > row.fence

    async def test_late_answer_after_a_retraction_leaves_the_recipient_cancelled(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(hours=1))
        await outbox_fixture.change(row.id, **RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}
        cancels = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        await outbox_fixture.outbox.record_cancels([over(cancel) for cancel in cancels])
        row.recipients[0].state = RecipientState.ACCEPTED
        assert await outbox_fixture.outbox.settle(members_of(row), []) == []
        assert [entry["state"] for entry in await outbox_fixture.entries(row.id)] == ["cancelled"]

    async def test_retracted_failure_is_not_retried(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.REFUSED, timedelta(0))
        await outbox_fixture.change(row.id, **RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 0}
        assert (await outbox_fixture.head(row.id))["next_attempt_at"] is None
        assert ids_of(await outbox_fixture.claim()) == []

    async def test_row_published_again_is_a_new_generation_and_can_be_retracted(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        first = await outbox_fixture.value("select retracted_at from notify.ent_notification where id = %s", row.id)
        await outbox_fixture.change(row.id, notification_status="PENDING")
        assert ids_of(await outbox_fixture.claim()) == [row.id]
        assert "retraction" not in await details(outbox_fixture, row.id)
        [again] = await outbox_fixture.acquire(row.id)
        assert again.generation == 2
        await outbox_fixture.outbox.record_calls(calls_of(again))
        await outbox_fixture.change(row.id, **RETRACT)
        await outbox_fixture.outbox.release([again])
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}
        assert (
            await outbox_fixture.value("select retracted_at from notify.ent_notification where id = %s", row.id) > first
        )

    async def test_earlier_generations_of_the_row_are_cancelled_too(self, outbox_fixture: OutboxFixture):
        row = await sent(outbox_fixture)
        await outbox_fixture.change(row.id, notification_status="PENDING")
        await outbox_fixture.claim()
        [again] = await outbox_fixture.acquire(row.id)
        await outbox_fixture.settle(again, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, **RETRACT)
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 2}

    async def test_f128_earlier_row_with_the_same_id_is_not_cancelled(self, outbox_fixture: OutboxFixture):
        row = await sent(outbox_fixture)
        await outbox_fixture.rows("truncate notify.ent_notification restart identity cascade")
        again = await outbox_fixture.acquired(id=row.id)
        await outbox_fixture.settle(again, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, **RETRACT)
        assert again.generation == 2
        assert await outbox_fixture.outbox.detect_retracted(10) == {row.id: 1}
        assert [entry["cancel_at"] is not None for entry in await outbox_fixture.entries(row.id)] == [False, True]

    async def test_processing_written_over_a_retraction_is_no_new_generation(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        await outbox_fixture.change(row.id, notification_status="PROCESSING")
        assert await outbox_fixture.outbox.adopt_orphans(timedelta(0), 10) == 0
        assert await ForeignStatuses(outbox_fixture.outbox).put_back() == 1
        assert await outbox_fixture.status(row.id) == "RETRACTED"
        assert ids_of(await outbox_fixture.claim()) == []
        assert (await outbox_fixture.head(row.id))["generation"] == 1

    async def test_detection_respects_its_limit_and_the_enterprises(self, outbox_fixture: OutboxFixture):
        ours = "00000000-0000-0000-0000-000000000001"
        for enterprise in (ours, ours, None):
            await outbox_fixture.notify(**RETRACT, enterprise_id=enterprise)
        node = await outbox_fixture.node(
            "there", *[row[0] for row in await outbox_fixture.rows("select %s::uuid", ours)]
        )
        assert len(await node.detect_retracted(1)) == 1
        assert len(await node.detect_retracted(10)) == 1
        assert len(await outbox_fixture.outbox.detect_retracted(10)) == 1


class TestCancels:
    async def test_cancel_is_acquired_by_one_caller(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        [cancel] = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        assert (cancel.notification_id, cancel.state, cancel.attempts) == (row.id, "accepted", 0)
        assert cancel.transaction_id == row.recipients[0].transaction_id
        assert cancel.call_age < timedelta(seconds=30)
        assert await outbox_fixture.outbox.acquire_cancels(10, LEASE) == []

    async def test_cancel_locked_by_another_caller_is_skipped(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture, recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(3)])
        async with outbox_fixture.owner.transaction():
            taken = "select from dispatcher.recipient where recipient = %s for no key update"
            await outbox_fixture.rows(taken, row.recipients[0].id)
            async with asyncio.timeout(5):
                cancels = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        assert {cancel.recipient for cancel in cancels} == {recipient.id for recipient in row.recipients[1:]}

    async def test_completed_cancel_is_final(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        await outbox_fixture.outbox.record_cancels(
            [over(cancel) for cancel in await outbox_fixture.outbox.acquire_cancels(10, LEASE)]
        )
        [entry] = await outbox_fixture.entries(row.id)
        assert (entry["state"], entry["outcome"], entry["cancel_at"]) == ("cancelled", STOPPED, None)

    async def test_failed_cancel_is_acquired_again_later(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        [cancel] = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        cancel.attempts, cancel.retry_in, cancel.outcome, cancel.error = 1, timedelta(0), "http_503", "later"
        await outbox_fixture.outbox.record_cancels([cancel])
        [again] = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        assert (again.notification_id, again.attempts) == (row.id, 1)

    async def test_given_up_cancel_is_recorded(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        [cancel] = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        cancel.outcome, cancel.error = GIVEN_UP, "HTTP 500: no"
        await outbox_fixture.outbox.record_cancels([cancel])
        [entry] = await outbox_fixture.entries(row.id)
        assert (entry["state"], entry["outcome"], entry["error"]) == ("accepted", GIVEN_UP, "HTTP 500: no")
        assert await outbox_fixture.outbox.acquire_cancels(10, LEASE) == []

    async def test_cancel_of_a_dead_process_passes_to_another(self, outbox_fixture: OutboxFixture):
        row = await retracted(outbox_fixture)
        [late] = await outbox_fixture.outbox.acquire_cancels(10, timedelta(0))
        [cancel] = await outbox_fixture.outbox.acquire_cancels(10, LEASE)
        await outbox_fixture.outbox.record_cancels([over(late)])
        [entry] = await outbox_fixture.entries(row.id)
        assert (entry["state"], entry["cancel_at"]) == ("accepted", cancel.lease_until), (
            "who was too late writes nothing"
        )

    async def test_cancel_continues_when_the_row_is_republished_or_deleted(self, outbox_fixture: OutboxFixture):
        again, gone = await retracted(outbox_fixture), await retracted(outbox_fixture)
        await outbox_fixture.change(again.id, notification_status="PENDING")
        await outbox_fixture.claim()
        await outbox_fixture.rows("delete from notify.ent_notification where id = %s", gone.id)
        assert {cancel.notification_id for cancel in await outbox_fixture.outbox.acquire_cancels(10, LEASE)} == {
            again.id,
            gone.id,
        }

    async def test_recipients_of_other_enterprises_are_not_cancelled(self, outbox_fixture: OutboxFixture):
        await retracted(outbox_fixture)
        node = await outbox_fixture.node(
            "there", *[row[0] for row in await outbox_fixture.rows("select gen_random_uuid()")]
        )
        assert await node.acquire_cancels(10, LEASE) == []


@pytest.mark.parametrize("name", QUERIES)
async def test_search_for_cancels_is_cheap_in_a_large_ledger(
    outbox_fixture: OutboxFixture, name: Literal["detect_retracted", "acquire_cancels"]
):
    await outbox_fixture.rows(
        "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
        " select 'n ' || i, 'PUBLISH', 'SENT', '{}', array[gen_random_uuid()] from generate_series(1, 5000) i"
    )
    await outbox_fixture.rows(
        "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients,"
        " error_details) select 'r ' || i, 'PUBLISH', 'RETRACTED', '{}', array[gen_random_uuid()],"
        " '{\"retraction\": {}}' from generate_series(1, 5000) i"
    )
    await outbox_fixture.rows(
        "with heads as (insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at,"
        " claimed_at, settled_at) select id, 'b', 1, 1, now(), now(), now() from notify.ent_notification returning *)"
        " insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, state)"
        " select notification_id, 1, 'ana', 0, 'tx', 'accepted' from heads"
    )
    await retracted(outbox_fixture)
    await outbox_fixture.outbox.acquire_cancels(10, LEASE)
    await outbox_fixture.rows("vacuum analyze notify.ent_notification, dispatcher.delivery, dispatcher.recipient")
    asked: dict[str, Any] = {"limit": 10, "lease": LEASE, "all_enterprises": True, "enterprises": []}
    async with outbox_fixture.pool.connection() as connection:
        plan = await connection.execute(
            b"explain (analyze, buffers, format json) " + vars(outbox_fixture.outbox)["_queries"][name], asked
        )
        [[[explained]]] = await plan.fetchall()
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 50
