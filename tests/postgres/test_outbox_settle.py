"""Outcomes are written by who holds the fence, to rows that are still in work; readers find what they expect."""

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, NOT_OURS, OutboxFixture, calls_of, fenced_out, ids_of, members_of


async def test_sent_row_has_all_fields_of_xnovu(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    [recipient] = row.recipients
    stored = await outbox_fixture.row(row.id)
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
    head = await outbox_fixture.head(row.id)
    assert head["settled_at"] is not None
    left = ("lease_owner", "lease_until", "next_attempt_at", "dead_lettered_at", "last_error")
    assert [head[name] for name in left] == [None] * 5
    [entry] = await outbox_fixture.entries(row.id)
    assert (entry["state"], entry["outcome"], entry["error"]) == ("accepted", "processed", None)


async def test_transaction_id_of_the_producer_stays(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired(transaction_id="theirs")
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    assert (await outbox_fixture.row(row.id))["transaction_id"] == "theirs"


async def test_failed_row_without_acceptance_gets_no_transaction_id(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.REFUSED)
    assert (await outbox_fixture.row(row.id))["transaction_id"] is None


async def test_channels_come_from_the_workflow(outbox_fixture: OutboxFixture):
    key = "default-multi-channel"
    row = await outbox_fixture.acquired(notification_workflow_id=await outbox_fixture.workflow(key))
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    assert (await outbox_fixture.row(row.id))["channels"] == ["EMAIL", "IN_APP", "SMS", "PUSH", "CHAT"]


@pytest.mark.parametrize("loss", ["without channels", "deleted"])
async def test_channels_are_empty_for_a_workflow_without_channels(outbox_fixture: OutboxFixture, loss: str):
    row = await outbox_fixture.acquired()
    if loss == "deleted":
        await outbox_fixture.rows("delete from notify.ent_notification_workflow")
    else:
        await outbox_fixture.rows("update notify.ent_notification_workflow set default_channels = null")
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    assert (await outbox_fixture.row(row.id))["channels"] == []


async def test_failure_to_be_retried_has_its_time(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(minutes=4))
    head = await outbox_fixture.head(row.id)
    assert head["next_attempt_at"] - head["settled_at"] == pytest.approx(timedelta(minutes=4), abs=timedelta(seconds=1))
    assert (head["dead_lettered_at"], head["last_error"]) == (None, "HTTP 503: later")
    stored = await outbox_fixture.row(row.id)
    assert (stored["notification_status"], stored["error_details"]["dead_letter"]) == ("FAILED", False)


async def test_final_failure_is_a_dead_letter(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.REFUSED)
    head = await outbox_fixture.head(row.id)
    assert head["next_attempt_at"] is None
    assert head["dead_lettered_at"] is not None
    assert (await outbox_fixture.row(row.id))["error_details"]["dead_letter"] is True


@pytest.mark.parametrize("label", [False, True], ids=["XNovu's labels", "with PARTIAL"])
async def test_partial_is_stored_if_the_enum_has_it(outbox_fixture: OutboxFixture, *, label: bool):
    if label:
        await outbox_fixture.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    outbox = await outbox_fixture.node("here")
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, RecipientState.REFUSED
    row.final_status = decide_status(row, None)
    await outbox.settle(members_of(row), [row])
    stored = await outbox_fixture.row(row.id)
    assert stored["notification_status"] == ("PARTIAL" if label else "FAILED")
    assert stored["error_details"]["outcome"] == "PARTIAL"
    assert (await outbox_fixture.head(row.id))["dead_lettered_at"] is not None


@pytest.mark.parametrize("label", [False, True], ids=["XNovu's labels", "with PARTIAL"])
async def test_partial_row_is_retried(outbox_fixture: OutboxFixture, *, label: bool):
    if label:
        await outbox_fixture.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    outbox = await outbox_fixture.node("here")
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, RecipientState.UNKNOWN
    row.final_status = decide_status(row, timedelta(0))
    await outbox.settle(members_of(row), [row])
    assert ids_of(await outbox_fixture.claim(outbox)) == [row.id]
    [again] = await outbox_fixture.acquire(row.id)
    assert [recipient.state for recipient in again.recipients] == [RecipientState.ACCEPTED, RecipientState.UNKNOWN]


async def test_late_settle_changes_nothing(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    late = fenced_out(row)
    late.recipients[0].state = RecipientState.ACCEPTED
    late.final_status = decide_status(late, None)
    before = await outbox_fixture.snapshot()
    await outbox_fixture.outbox.settle(members_of(late), [late])
    assert await outbox_fixture.snapshot() == before
    assert await outbox_fixture.status(row.id) == "PROCESSING"


async def test_late_sent_does_not_revive_a_failed_row(outbox_fixture: OutboxFixture):
    slow = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(slow))
    [fast] = await outbox_fixture.acquire(slow.id)
    await outbox_fixture.settle(fast, RecipientState.REFUSED)
    await outbox_fixture.settle(slow, RecipientState.ACCEPTED)
    assert await outbox_fixture.status(slow.id) == "FAILED"
    assert [entry["state"] for entry in await outbox_fixture.entries(slow.id)] == ["refused"]


@pytest.mark.parametrize("kind", [kind for kind in NOT_OURS if kind != "pending again"])
async def test_only_a_processing_row_gets_a_final_status(outbox_fixture: OutboxFixture, kind: str):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    await outbox_fixture.change(row.id, **NOT_OURS[kind])
    row.recipients[0].state = RecipientState.ACCEPTED
    row.final_status = decide_status(row, None)
    before = await outbox_fixture.row(row.id)
    await outbox_fixture.outbox.settle(members_of(row), [row])
    assert await outbox_fixture.row(row.id) == before
    [entry] = await outbox_fixture.entries(row.id)
    assert entry["state"] == "accepted"  # the truth is kept: a retraction has to cancel it
    assert (await outbox_fixture.head(row.id))["settled_at"] is not None


async def test_outcomes_without_a_final_status_leave_the_row_processing(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[0].outcome = RecipientState.ACCEPTED, "processed"
    row.recipients[1].state, row.recipients[1].error = RecipientState.UNKNOWN, 'it\'s "lost" \\ ü 🚨'
    row.recipients[1].epoch = 1
    await outbox_fixture.outbox.settle(members_of(row), [])
    stored = await outbox_fixture.row(row.id)
    assert (stored["notification_status"], stored["processed_at"], stored["error_details"]) == (
        "PROCESSING",
        None,
        None,
    )
    assert (await outbox_fixture.head(row.id))["lease_owner"] == "here"
    [again] = await outbox_fixture.acquire(row.id)
    assert [recipient.state for recipient in again.recipients] == [RecipientState.ACCEPTED, RecipientState.UNKNOWN]
    assert (again.recipients[1].error, again.recipients[1].epoch) == ('it\'s "lost" \\ ü 🚨', 1)


async def test_fenced_out_row_does_not_affect_its_batch(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(3)]
    await outbox_fixture.outbox.record_calls(calls_of(*rows))
    await outbox_fixture.acquire(rows[1].id)
    for row in rows:
        row.recipients[0].state = RecipientState.ACCEPTED
        row.final_status = decide_status(row, None)
    await outbox_fixture.outbox.settle(members_of(*rows), rows)
    assert [await outbox_fixture.status(row.id) for row in rows] == ["SENT", "PROCESSING", "SENT"]


async def test_outcomes_of_earlier_generations_stay(outbox_fixture: OutboxFixture):
    first = await outbox_fixture.acquired()
    await outbox_fixture.settle(first, RecipientState.ACCEPTED)
    await outbox_fixture.change(first.id, notification_status="PENDING")
    await outbox_fixture.claim()
    [second] = await outbox_fixture.acquire(first.id)
    await outbox_fixture.settle(second, RecipientState.REFUSED)
    entries = await outbox_fixture.entries(first.id)
    assert [(entry["generation"], entry["state"]) for entry in entries] == [(1, "accepted"), (2, "refused")]


async def test_retraction_during_a_settle_stays(outbox_fixture: OutboxFixture):
    for _ in range(30):
        row = await outbox_fixture.acquired()
        await outbox_fixture.outbox.record_calls(calls_of(row))
        row.recipients[0].state = RecipientState.ACCEPTED
        row.final_status = decide_status(row, None)
        await asyncio.gather(
            outbox_fixture.change(row.id, notification_status="RETRACTED"),
            outbox_fixture.outbox.settle(members_of(row), [row]),
        )
        assert await outbox_fixture.status(row.id) == "RETRACTED"
        assert (await outbox_fixture.head(row.id))["lease_until"] is None


async def test_rows_that_failed_together_become_due_together(outbox_fixture: OutboxFixture):
    ids = await outbox_fixture.many(20)
    [start] = (await outbox_fixture.claim()).starts
    rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
    for row in rows:
        row.final_status = decide_status(row, timedelta(minutes=1))
    await outbox_fixture.outbox.settle([], rows)
    assert await outbox_fixture.value("select count(distinct next_attempt_at) from dispatcher.delivery") == 1
