"""Retractions in the ledger: noticed by the status alone, once nobody works on the row; taken back by one at a time."""

import asyncio
from datetime import timedelta
from typing import Any, Literal

import pytest
from ledger_books import LEASE, Books, calls_of, ids_of

from dispatcher.decisions.cancellation import GIVEN_UP, STOPPED
from dispatcher.models.notification import Cancel, Notification, State

RETRACT = {"notification_status": "RETRACTED"}
QUERIES: tuple[Literal["detect_retracted", "acquire_cancels"], ...] = ("detect_retracted", "acquire_cancels")


async def sent(books: Books, **columns: Any) -> Notification:
    """Send a notification."""
    row = await books.held(**columns)
    await books.settle(row, State.ACCEPTED)
    return row


async def retracted(books: Books, **columns: Any) -> Notification:
    """Send a notification, retract it, and notice that."""
    row = await sent(books, **columns)
    await books.change(row.id, **RETRACT)
    assert row.id in await books.outbox.notice(10)
    return row


async def details(books: Books, notification_id: int) -> Any:
    return (await books.row(notification_id))["error_details"]


def over(cancel: Cancel) -> Cancel:
    """Return the cancel as it ends when Novu did it."""
    cancel.state, cancel.outcome = State.CANCELLED, STOPPED
    return cancel


class TestNoticing:
    async def test_a_row_never_claimed_is_noticed_once(self, books: Books):
        row = await books.notify(**RETRACT)
        assert await books.outbox.notice(10) == {row: 0}
        assert await books.outbox.notice(10) == {}
        assert list(await details(books, row)) == ["retraction"]
        assert await books.value("select retracted_at is not null from notify.ent_notification where id = %s", row)

    async def test_accepted_and_unknown_recipients_are_to_be_taken_back(self, books: Books):
        row = await books.held(recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(4)])
        states = (State.ACCEPTED, State.UNKNOWN, State.REFUSED, State.SENDING)
        await books.settle(row, State.ACCEPTED)
        for recipient, state in zip(row.recipients, states, strict=True):
            await books.rows("update dispatcher.recipient set state = %s where recipient = %s", state, recipient.id)
        await books.change(row.id, **RETRACT)
        assert await books.outbox.notice(10) == {row.id: 3}
        assert [entry["cancel_at"] is not None for entry in await books.entries(row.id)] == [True, True, False, True]

    async def test_what_the_owner_wrote_stays(self, books: Books):
        row = await sent(books)
        before = await details(books, row.id)
        await books.rows(
            "update notify.ent_notification set notification_status = 'RETRACTED', retracted_at = '2999-01-01',"
            " retraction_reason = 'wrong lift' where id = %s",
            row.id,
        )
        assert await books.outbox.notice(10) == {row.id: 1}
        [[reason, at]] = await books.rows(
            "select retraction_reason, retracted_at::text from notify.ent_notification where id = %s", row.id
        )
        assert (reason, at[:10]) == ("wrong lift", "2999-01-01")
        after = await details(books, row.id)
        assert after.pop("retraction")
        assert after == before

    @pytest.mark.parametrize("odd", ['"words"', "[1]", "null", "3"])
    async def test_details_that_are_no_object_are_replaced(self, books: Books, odd: str):
        row = await books.notify(**RETRACT, error_details=odd)
        assert await books.outbox.notice(10) == {row: 0}
        assert list(await details(books, row)) == ["retraction"]

    async def test_a_row_in_work_waits_until_its_run_let_go(self, books: Books):
        row = await books.held()
        await books.outbox.sending(calls_of(row))
        await books.change(row.id, **RETRACT)
        assert await books.outbox.notice(10) == {}
        assert "retraction" not in (await details(books, row.id) or {})
        await books.outbox.hand_back([row])
        assert await books.outbox.notice(10) == {row.id: 1}
        head = await books.head(row.id)
        assert (head["settled_at"] is not None, head["next_attempt_at"]) == (True, None)
        assert head["fence"] > row.fence

    async def test_a_failure_that_waited_is_not_tried_again(self, books: Books):
        row = await books.held()
        await books.settle(row, State.REFUSED, timedelta(0))
        await books.change(row.id, **RETRACT)
        assert await books.outbox.notice(10) == {row.id: 0}
        assert (await books.head(row.id))["next_attempt_at"] is None
        assert ids_of(await books.claim()) == []

    async def test_published_again_it_is_a_new_generation_and_can_be_retracted_again(self, books: Books):
        row = await retracted(books)
        first = await books.value("select retracted_at from notify.ent_notification where id = %s", row.id)
        await books.change(row.id, notification_status="PENDING")
        assert ids_of(await books.claim()) == [row.id]
        assert "retraction" not in await details(books, row.id)
        [again] = await books.take(row.id)
        assert again.generation == 2
        await books.outbox.sending(calls_of(again))
        await books.change(row.id, **RETRACT)
        await books.outbox.hand_back([again])
        assert await books.outbox.notice(10) == {row.id: 1}
        assert await books.value("select retracted_at from notify.ent_notification where id = %s", row.id) > first

    async def test_earlier_generations_of_the_same_row_are_taken_back_too(self, books: Books):
        row = await sent(books)
        await books.change(row.id, notification_status="PENDING")
        await books.claim()
        [again] = await books.take(row.id)
        await books.settle(again, State.ACCEPTED)
        await books.change(row.id, **RETRACT)
        assert await books.outbox.notice(10) == {row.id: 2}

    async def test_f128_another_row_that_had_the_id_before_is_left_alone(self, books: Books):
        row = await sent(books)
        await books.rows("truncate notify.ent_notification restart identity cascade")
        again = await books.held(id=row.id)
        await books.settle(again, State.ACCEPTED)
        await books.change(row.id, **RETRACT)
        assert again.generation == 2
        assert await books.outbox.notice(10) == {row.id: 1}
        assert [entry["cancel_at"] is not None for entry in await books.entries(row.id)] == [False, True]

    async def test_processing_written_over_a_retraction_is_a_new_sending(self, books: Books):
        row = await retracted(books)
        await books.change(row.id, notification_status="PROCESSING")
        assert await books.outbox.adopt(timedelta(0), 10) == 1
        [late] = await books.outbox.expired(10)
        assert await books.outbox.rescue(late, LEASE) is None
        assert await books.status(row.id) == "PENDING"
        await books.claim()
        assert (await books.head(row.id))["generation"] == 2

    async def test_bounds_and_enterprises_are_respected(self, books: Books):
        ours = "00000000-0000-0000-0000-000000000001"
        for enterprise in (ours, ours, None):
            await books.notify(**RETRACT, enterprise_id=enterprise)
        node = await books.node("there", *[row[0] for row in await books.rows("select %s::uuid", ours)])
        assert len(await node.notice(1)) == 1
        assert len(await node.notice(10)) == 1
        assert len(await books.outbox.notice(10)) == 1


class TestTakingBack:
    async def test_a_recipient_is_one_callers_alone(self, books: Books):
        row = await retracted(books)
        [cancel] = await books.outbox.cancelling(10, LEASE)
        assert (cancel.notification_id, cancel.state, cancel.attempts) == (row.id, "accepted", 0)
        assert cancel.transaction_id == row.recipients[0].transaction_id
        assert cancel.call_age < timedelta(seconds=30)
        assert await books.outbox.cancelling(10, LEASE) == []

    async def test_what_another_caller_is_about_to_take_is_left_to_it(self, books: Books):
        row = await retracted(books, recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(3)])
        async with books.owner.transaction():
            taken = "select from dispatcher.recipient where recipient = %s for no key update"
            await books.rows(taken, row.recipients[0].id)
            async with asyncio.timeout(5):
                cancels = await books.outbox.cancelling(10, LEASE)
        assert {cancel.recipient for cancel in cancels} == {recipient.id for recipient in row.recipients[1:]}

    async def test_what_is_over_is_over(self, books: Books):
        row = await retracted(books)
        await books.outbox.cancelled([over(cancel) for cancel in await books.outbox.cancelling(10, LEASE)])
        [entry] = await books.entries(row.id)
        assert (entry["state"], entry["outcome"], entry["cancel_at"]) == ("cancelled", STOPPED, None)

    async def test_what_is_not_comes_back_in_time(self, books: Books):
        row = await retracted(books)
        [cancel] = await books.outbox.cancelling(10, LEASE)
        cancel.attempts, cancel.wait, cancel.outcome, cancel.error = 1, timedelta(0), "http_503", "later"
        await books.outbox.cancelled([cancel])
        [again] = await books.outbox.cancelling(10, LEASE)
        assert (again.notification_id, again.attempts) == (row.id, 1)

    async def test_what_is_given_up_says_so(self, books: Books):
        row = await retracted(books)
        [cancel] = await books.outbox.cancelling(10, LEASE)
        cancel.outcome, cancel.error = GIVEN_UP, "HTTP 500: no"
        await books.outbox.cancelled([cancel])
        [entry] = await books.entries(row.id)
        assert (entry["state"], entry["outcome"], entry["error"]) == ("accepted", GIVEN_UP, "HTTP 500: no")
        assert await books.outbox.cancelling(10, LEASE) == []

    async def test_what_a_dead_process_had_is_the_next_ones(self, books: Books):
        row = await retracted(books)
        [late] = await books.outbox.cancelling(10, timedelta(0))
        [cancel] = await books.outbox.cancelling(10, LEASE)
        await books.outbox.cancelled([over(late)])
        [entry] = await books.entries(row.id)
        assert (entry["state"], entry["cancel_at"]) == ("accepted", cancel.lease_until), (
            "who was too late writes nothing"
        )

    async def test_it_goes_on_when_the_row_is_published_again_or_gone(self, books: Books):
        again, gone = await retracted(books), await retracted(books)
        await books.change(again.id, notification_status="PENDING")
        await books.claim()
        await books.rows("delete from notify.ent_notification where id = %s", gone.id)
        assert {cancel.notification_id for cancel in await books.outbox.cancelling(10, LEASE)} == {again.id, gone.id}

    async def test_other_enterprises_recipients_are_left_to_others(self, books: Books):
        await retracted(books)
        node = await books.node("there", *[row[0] for row in await books.rows("select gen_random_uuid()")])
        assert await node.cancelling(10, LEASE) == []


@pytest.mark.parametrize("name", QUERIES)
async def test_looking_costs_nothing_in_a_large_ledger(
    books: Books, name: Literal["detect_retracted", "acquire_cancels"]
):
    await books.rows(
        "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
        " select 'n ' || i, 'PUBLISH', 'SENT', '{}', array[gen_random_uuid()] from generate_series(1, 5000) i"
    )
    await books.rows(
        "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients,"
        " error_details) select 'r ' || i, 'PUBLISH', 'RETRACTED', '{}', array[gen_random_uuid()],"
        " '{\"retraction\": {}}' from generate_series(1, 5000) i"
    )
    await books.rows(
        "with heads as (insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at,"
        " claimed_at, settled_at) select id, 'b', 1, 1, now(), now(), now() from notify.ent_notification returning *)"
        " insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, state)"
        " select notification_id, 1, 'ana', 0, 'tx', 'accepted' from heads"
    )
    await retracted(books)
    await books.outbox.cancelling(10, LEASE)
    await books.rows("vacuum analyze notify.ent_notification, dispatcher.delivery, dispatcher.recipient")
    asked: dict[str, Any] = {"limit": 10, "lease": LEASE, "all_enterprises": True, "enterprises": []}
    async with books.pool.connection() as connection:
        plan = await connection.execute(
            b"explain (analyze, buffers, format json) " + vars(books.outbox)["_queries"][name], asked
        )
        [[[explained]]] = await plan.fetchall()
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 50
