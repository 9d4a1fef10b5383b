"""Outcomes are written by who holds the fence, to rows that are still in work; readers find what they expect."""

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from ledger_books import LEASE, NOT_OURS, Books, calls_of, ids_of, members_of, stale

from dispatcher.decisions.final_status import conclude
from dispatcher.models.notification import State


async def test_a_sent_row_has_everything_its_readers_expect(books: Books):
    row = await books.held()
    await books.settle(row, State.ACCEPTED)
    [recipient] = row.recipients
    stored = await books.row(row.id)
    assert stored["notification_status"] == "SENT"
    assert stored["transaction_id"] == recipient.transaction_id
    assert stored["channels"] == ["IN_APP"]
    assert stored["processed_at"] is not None
    details = stored["error_details"]
    assert datetime.fromisoformat(details.pop("timestamp")).tzinfo is not None
    assert details == {
        "novu_transaction_ids": [recipient.transaction_id],
        "results": [{"recipientId": recipient.id, "success": True, "transactionId": recipient.transaction_id}],
        "successCount": 1,
        "totalRecipients": 1,
        "outcome": "SENT",
        "generation": 1,
        "attempts": 1,
    }
    head = await books.head(row.id)
    assert head["settled_at"] is not None
    left = ("lease_owner", "lease_until", "next_attempt_at", "dead_lettered_at", "last_error")
    assert [head[name] for name in left] == [None] * 5
    [entry] = await books.entries(row.id)
    assert (entry["state"], entry["outcome"], entry["error"]) == ("accepted", "processed", None)


async def test_a_producers_transaction_id_stays(books: Books):
    row = await books.held(transaction_id="theirs")
    await books.settle(row, State.ACCEPTED)
    assert (await books.row(row.id))["transaction_id"] == "theirs"


async def test_a_failed_row_without_acceptance_gets_no_transaction_id(books: Books):
    row = await books.held()
    await books.settle(row, State.REFUSED)
    assert (await books.row(row.id))["transaction_id"] is None


async def test_channels_come_from_the_workflow(books: Books):
    key = "default-multi-channel"
    row = await books.held(notification_workflow_id=await books.workflow(key))
    await books.settle(row, State.ACCEPTED)
    assert (await books.row(row.id))["channels"] == ["EMAIL", "IN_APP", "SMS", "PUSH", "CHAT"]


@pytest.mark.parametrize("loss", ["without channels", "deleted"])
async def test_channels_are_empty_where_the_workflow_has_none(books: Books, loss: str):
    row = await books.held()
    if loss == "deleted":
        await books.rows("delete from notify.ent_notification_workflow")
    else:
        await books.rows("update notify.ent_notification_workflow set default_channels = null")
    await books.settle(row, State.ACCEPTED)
    assert (await books.row(row.id))["channels"] == []


async def test_a_failure_that_is_tried_again_says_when(books: Books):
    row = await books.held()
    await books.settle(row, State.UNKNOWN, timedelta(minutes=4))
    head = await books.head(row.id)
    assert head["next_attempt_at"] - head["settled_at"] == pytest.approx(timedelta(minutes=4), abs=timedelta(seconds=1))
    assert (head["dead_lettered_at"], head["last_error"]) == (None, "HTTP 503: later")
    stored = await books.row(row.id)
    assert (stored["notification_status"], stored["error_details"]["dead_letter"]) == ("FAILED", False)


async def test_a_failure_for_good_is_a_dead_letter(books: Books):
    row = await books.held()
    await books.settle(row, State.REFUSED)
    head = await books.head(row.id)
    assert head["next_attempt_at"] is None
    assert head["dead_lettered_at"] is not None
    assert (await books.row(row.id))["error_details"]["dead_letter"] is True


@pytest.mark.parametrize("label", [False, True], ids=["XNovu's labels", "with PARTIAL"])
async def test_partial_is_stored_where_the_type_has_it(books: Books, *, label: bool):
    if label:
        await books.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    outbox = await books.node("here")
    row = await books.held(recipients=[uuid4(), uuid4()])
    await outbox.sending(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = State.ACCEPTED, State.REFUSED
    row.conclusion = conclude(row, None)
    await outbox.settle(members_of(row), [row])
    stored = await books.row(row.id)
    assert stored["notification_status"] == ("PARTIAL" if label else "FAILED")
    assert stored["error_details"]["outcome"] == "PARTIAL"
    assert (await books.head(row.id))["dead_lettered_at"] is not None


@pytest.mark.parametrize("label", [False, True], ids=["XNovu's labels", "with PARTIAL"])
async def test_a_partial_row_is_tried_again(books: Books, *, label: bool):
    if label:
        await books.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    outbox = await books.node("here")
    row = await books.held(recipients=[uuid4(), uuid4()])
    await outbox.sending(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = State.ACCEPTED, State.UNKNOWN
    row.conclusion = conclude(row, timedelta(0))
    await outbox.settle(members_of(row), [row])
    assert ids_of(await books.claim(outbox)) == [row.id]
    [again] = await books.take(row.id)
    assert [recipient.state for recipient in again.recipients] == [State.ACCEPTED, State.UNKNOWN]


async def test_a_late_settle_changes_nothing(books: Books):
    row = await books.held()
    await books.outbox.sending(calls_of(row))
    late = stale(row)
    late.recipients[0].state = State.ACCEPTED
    late.conclusion = conclude(late, None)
    before = await books.snapshot()
    await books.outbox.settle(members_of(late), [late])
    assert await books.snapshot() == before
    assert await books.status(row.id) == "PROCESSING"


async def test_a_late_sent_does_not_revive_a_failed_row(books: Books):
    slow = await books.held()
    await books.outbox.sending(calls_of(slow))
    [fast] = await books.take(slow.id)
    await books.settle(fast, State.REFUSED)
    await books.settle(slow, State.ACCEPTED)
    assert await books.status(slow.id) == "FAILED"
    assert [entry["state"] for entry in await books.entries(slow.id)] == ["refused"]


@pytest.mark.parametrize("kind", NOT_OURS)
async def test_only_processing_becomes_something_else(books: Books, kind: str):
    row = await books.held()
    await books.outbox.sending(calls_of(row))
    await books.change(row.id, **NOT_OURS[kind])
    row.recipients[0].state = State.ACCEPTED
    row.conclusion = conclude(row, None)
    before = await books.row(row.id)
    await books.outbox.settle(members_of(row), [row])
    assert await books.row(row.id) == before
    [entry] = await books.entries(row.id)
    assert entry["state"] == "accepted"  # the truth is kept: a retraction has to cancel it
    assert (await books.head(row.id))["settled_at"] is not None


async def test_outcomes_without_a_conclusion_leave_the_row_in_work(books: Books):
    row = await books.held(recipients=[uuid4(), uuid4()])
    await books.outbox.sending(calls_of(row))
    row.recipients[0].state, row.recipients[0].outcome = State.ACCEPTED, "processed"
    row.recipients[1].state, row.recipients[1].error = State.UNKNOWN, 'it\'s "lost" \\ ü 🚨'
    row.recipients[1].epoch = 1
    await books.outbox.settle(members_of(row), [])
    stored = await books.row(row.id)
    assert (stored["notification_status"], stored["processed_at"], stored["error_details"]) == (
        "PROCESSING",
        None,
        None,
    )
    assert (await books.head(row.id))["lease_owner"] == "here"
    [again] = await books.take(row.id)
    assert [recipient.state for recipient in again.recipients] == [State.ACCEPTED, State.UNKNOWN]
    assert (again.recipients[1].error, again.recipients[1].epoch) == ('it\'s "lost" \\ ü 🚨', 1)


async def test_a_shut_out_row_does_not_hinder_the_others_of_its_batch(books: Books):
    rows = [await books.held() for _ in range(3)]
    await books.outbox.sending(calls_of(*rows))
    await books.take(rows[1].id)
    for row in rows:
        row.recipients[0].state = State.ACCEPTED
        row.conclusion = conclude(row, None)
    await books.outbox.settle(members_of(*rows), rows)
    assert [await books.status(row.id) for row in rows] == ["SENT", "PROCESSING", "SENT"]


async def test_earlier_generations_outcomes_stay(books: Books):
    first = await books.held()
    await books.settle(first, State.ACCEPTED)
    await books.change(first.id, notification_status="PENDING")
    await books.claim()
    [second] = await books.take(first.id)
    await books.settle(second, State.REFUSED)
    entries = await books.entries(first.id)
    assert [(entry["generation"], entry["state"]) for entry in entries] == [(1, "accepted"), (2, "refused")]


async def test_a_retraction_during_a_settle_stands(books: Books):
    for _ in range(30):
        row = await books.held()
        await books.outbox.sending(calls_of(row))
        row.recipients[0].state = State.ACCEPTED
        row.conclusion = conclude(row, None)
        await asyncio.gather(
            books.change(row.id, notification_status="RETRACTED"), books.outbox.settle(members_of(row), [row])
        )
        assert await books.status(row.id) == "RETRACTED"
        assert (await books.head(row.id))["lease_until"] is None


async def test_rows_that_failed_together_come_due_together(books: Books):
    ids = await books.many(20)
    [start] = (await books.claim(solo_max=1)).starts
    rows = [item.notification for item in await books.outbox.take(ids, start.workflow_id, LEASE)]
    for row in rows:
        row.conclusion = conclude(row, timedelta(minutes=1))
    await books.outbox.settle([], rows)
    assert await books.value("select count(distinct next_attempt_at) from dispatcher.delivery") == 1
