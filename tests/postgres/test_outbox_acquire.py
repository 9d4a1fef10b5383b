"""A run acquires its rows: under a new fence, with all that a call to Novu needs, and no row of another run."""

import resource
from datetime import timedelta

import pytest
from psycopg.rows import dict_row

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import RecipientState, RowLimits, Status
from dispatcher.postgres.statements import load_query, shared_parts
from tests.support.outbox_fixture import (
    INELIGIBLE,
    LEASE,
    NOT_OURS,
    RELATIONS,
    WORKFLOW,
    OutboxFixture,
    calls_of,
    members_of,
)


async def test_acquire_raises_the_fence_and_renews_the_lease(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.notify()
    [start] = (await outbox_fixture.claim()).starts
    await outbox_fixture.expire(row)
    there = await outbox_fixture.node("there")
    [taken] = await there.acquire([row], start.workflow_id, LEASE)
    head = await outbox_fixture.head(row)
    assert (taken.eligible, taken.notification.fence, head["fence"], head["lease_owner"]) == (True, 2, 2, "there")
    assert await outbox_fixture.value("select lease_until > clock_timestamp() from dispatcher.delivery")
    assert (taken.notification.generation, taken.notification.attempts) == (1, 1)


async def test_acquire_reads_stored_values_unchanged(outbox_fixture: OutboxFixture):
    payload = '{"exact": 0.10000000000000000055511151231257827, "big": 12345678901234567890123, "ü": "\\u001f"}'
    row = await outbox_fixture.acquired(payload=payload, overrides='{"fcm": {"n": 1.10}}')
    stored = await outbox_fixture.rows("select payload::text, overrides::text from notify.ent_notification")
    assert [(row.payload, row.overrides)] == stored
    assert row.workflow_key == WORKFLOW
    assert "1.10" in (row.overrides or "")


async def test_acquire_takes_only_rows_of_its_workflow(outbox_fixture: OutboxFixture):
    mine, other = await outbox_fixture.many(2)
    await outbox_fixture.claim(batch_size=1)
    workflow_id = (await outbox_fixture.head(mine))["workflow_id"]
    taken = await outbox_fixture.outbox.acquire([mine, other], workflow_id, LEASE)
    assert [item.notification.id for item in taken] == [mine]
    assert await outbox_fixture.outbox.acquire([mine], "notifications-of-somebody", LEASE) == []
    assert (await outbox_fixture.head(other))["fence"] == 1


async def test_acquire_skips_settled_rows(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(minutes=1))
    await outbox_fixture.rows("update notify.ent_notification set notification_status = 'PROCESSING'")
    assert await outbox_fixture.acquire(row.id) == []


@pytest.mark.parametrize("kind", NOT_OURS)
async def test_acquire_skips_a_row_no_longer_processing(outbox_fixture: OutboxFixture, kind: str):
    row = await outbox_fixture.acquired()
    await outbox_fixture.change(row.id, **NOT_OURS[kind])
    before = await outbox_fixture.snapshot()
    assert await outbox_fixture.acquire(row.id) == []
    assert await outbox_fixture.snapshot() == before


async def test_acquire_skips_a_deleted_row(outbox_fixture: OutboxFixture):
    gone, here = await outbox_fixture.many(2)
    [start] = (await outbox_fixture.claim()).starts
    await outbox_fixture.rows("delete from notify.ent_notification where id = %s", gone)
    taken = await outbox_fixture.outbox.acquire([gone, here], start.workflow_id, LEASE)
    assert [item.notification.id for item in taken] == [here]


@pytest.mark.parametrize("kind", INELIGIBLE)
async def test_row_that_became_ineligible_is_acquired_as_ineligible(outbox_fixture: OutboxFixture, kind: str):
    row = await outbox_fixture.notify()
    [start] = (await outbox_fixture.claim()).starts
    await outbox_fixture.change(row, **INELIGIBLE[kind])
    [taken] = await outbox_fixture.outbox.acquire([row], start.workflow_id, LEASE)
    assert not taken.eligible


async def test_batch_is_acquired_in_order_with_poison_and_valid_rows(outbox_fixture: OutboxFixture):
    first = await outbox_fixture.notify()
    large = await outbox_fixture.notify(payload='{"x": "' + "x" * 600 * 1024 + '"}')
    nobody = await outbox_fixture.notify(recipients=[])
    last = await outbox_fixture.notify()
    [start] = (await outbox_fixture.claim()).starts
    taken = await outbox_fixture.outbox.acquire([last, nobody, large, first], start.workflow_id, LEASE)
    assert [item.notification.id for item in taken] == [first, large, nobody, last]
    refusals = [item.notification.validation_error for item in taken]
    assert (refusals[0], refusals[2], refusals[3]) == (None, "recipients are empty", None)
    assert "the limit is 524288" in (refusals[1] or "")


async def test_f211_limit_of_a_larger_payload_is_a_setting(outbox_fixture: OutboxFixture):
    outbox = await outbox_fixture.node("large", limits=RowLimits(max_payload_bytes=2 * 1024**2))
    large = '{"x": "' + "x" * 1_500_000 + '"}'
    rows = [await outbox_fixture.notify(payload=large, overrides=each) for each in (large, None)]
    await outbox_fixture.claim()
    workflows = [(await outbox_fixture.head(row))["workflow_id"] for row in rows]
    [too_large], [fits] = [
        await outbox.acquire([row], workflow, LEASE) for row, workflow in zip(rows, workflows, strict=True)
    ]
    assert "the limit is 2097152 (DISPATCHER_MAX_PAYLOAD)" in (too_large.notification.validation_error or "")
    assert (fits.notification.validation_error, fits.notification.payload) == (None, large)


async def test_f211_payload_and_overrides_that_are_refused_are_not_read(outbox_fixture: OutboxFixture):
    half = '{"x": "' + "x" * 300 * 1024 + '"}'
    rows = [await outbox_fixture.notify(payload=half, overrides=each) for each in (half, None)]
    statement = load_query("dry_run_rows", **shared_parts(RELATIONS))  # with the columns of `acquire`
    limits = {"max_bytes": 512 * 1024, "max_recipients": 10, "last_attempt": 1}
    cursor = await outbox_fixture.owner.cursor(row_factory=dict_row).execute(statement, {"ids": rows, **limits})
    read = [(row["payload"], row["overrides"]) for row in await cursor.fetchall()]
    assert read == [(None, None), (half, None)]


@pytest.mark.parametrize("attempts", [3, 4])
async def test_f214_content_is_read_up_to_the_last_attempt(outbox_fixture: OutboxFixture, attempts: int):
    row = await outbox_fixture.notify(payload='{"a": 1}', overrides='{"severity": "urgent"}')
    await outbox_fixture.claim()
    await outbox_fixture.rows("update dispatcher.delivery set attempts = %s", attempts)
    workflow_id = (await outbox_fixture.head(row))["workflow_id"]
    [taken] = await outbox_fixture.outbox.acquire([row], workflow_id, LEASE, 3)
    refused = "overrides.severity is 'urgent'; Novu knows none, low, medium and high"
    assert taken.notification.validation_error == (refused if attempts == 3 else None)
    assert (taken.notification.payload, taken.notification.body_hash) == ("{}", "")
    assert len(taken.notification.recipients) == (0 if attempts == 3 else 1)


async def test_acquire_fences_out_the_earlier_run(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    [again] = await outbox_fixture.acquire(row.id)
    assert again.fence == row.fence + 1
    assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()
    assert await outbox_fixture.outbox.record_calls(calls_of(again)) == {(row.id, row.recipients[0].id)}


async def test_acquire_returns_the_last_calls_content_and_age(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    assert (row.recipients[0].call_hash, row.recipients[0].call_age) == (None, 0)
    await outbox_fixture.outbox.record_calls(calls_of(row))
    await outbox_fixture.rows(
        "update dispatcher.recipient set last_called_at = clock_timestamp() - interval '20 s',"
        " first_called_at = clock_timestamp() - interval '23 h'"
    )
    [again] = await outbox_fixture.acquire(row.id)
    [person] = again.recipients
    assert (person.state, person.call_key, person.call_hash) == (
        RecipientState.SENDING,
        calls_of(row)[0].key,
        row.body_hash,
    )
    assert 20 <= person.call_age < 30
    assert 23 * 3600 <= person.first_call_age < 23 * 3600 + 10


async def test_row_with_too_many_recipients_is_refused_without_reading_them(outbox_fixture: OutboxFixture):
    row, neighbour = await outbox_fixture.many(2)
    await outbox_fixture.rows(
        "update notify.ent_notification set recipients = array_fill(gen_random_uuid(), array[1000000]) where id = %s",
        row,
    )
    await outbox_fixture.claim()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for notification_id in (row, neighbour):
        workflow_id = (await outbox_fixture.head(notification_id))["workflow_id"]
        [taken] = await outbox_fixture.outbox.acquire([notification_id], workflow_id, LEASE)
        if notification_id == row:
            assert taken.notification.validation_error == "1000000 recipients; at most 100000 fit into one notification"
            assert taken.notification.recipients == []
        else:
            assert taken.notification.validation_error is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000, "KiB more than before"


async def test_row_that_grew_too_large_after_its_calls_is_partial(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state = RecipientState.ACCEPTED
    await outbox_fixture.outbox.settle(members_of(row), [])
    await outbox_fixture.rows(
        "update notify.ent_notification set recipients = recipients || array_fill(gen_random_uuid(), array[100000])"
    )
    [again] = await outbox_fixture.acquire(row.id)
    assert again.validation_error == "100001 recipients; at most 100000 fit into one notification"
    assert [recipient.state for recipient in again.recipients] == [RecipientState.ACCEPTED]
    assert decide_status(again, None).status is Status.PARTIAL


async def test_rows_of_many_recipients_are_read_in_parts(outbox_fixture: OutboxFixture):
    rows = await outbox_fixture.many(20)
    await outbox_fixture.rows(
        "update notify.ent_notification set recipients = array_fill(gen_random_uuid(), array[50000])"
    )
    [start] = (await outbox_fixture.claim()).starts
    taken = await outbox_fixture.outbox.acquire(rows, start.workflow_id, LEASE)
    assert 1 <= len(taken) <= 3
