"""A row that another transaction has locked holds up no other row, and no statement of ours waits for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest

from dispatcher.claim.foreign_statuses import ForeignStatuses
from dispatcher.decisions.final_status import decide_status
from dispatcher.models.claims import WorkflowStart
from dispatcher.models.notification import Notification, RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, members_of
from tests.support.waits import eventually

QUICK_SECONDS = 3.0
"""Less than any lock of these tests is held, and less than the lock timeout."""


@asynccontextmanager
async def locked(outbox_fixture: OutboxFixture, *ids: int) -> AsyncGenerator[psycopg.AsyncConnection]:
    """Hold the locks of an UPDATE on these rows, as a producer's open transaction does."""
    async with await psycopg.AsyncConnection.connect(outbox_fixture.url) as producer:
        await producer.execute("update notify.ent_notification set name = name where id = any(%s)", [list(ids)])
        yield producer


async def accepted(outbox_fixture: OutboxFixture, count: int) -> list[Notification]:
    """Return rows of which Novu accepted every recipient, but whose outcome is not written yet."""
    rows = [await outbox_fixture.acquired() for _ in range(count)]
    await outbox_fixture.outbox.record_calls(calls_of(*rows))
    for row in rows:
        row.recipients[0].state = RecipientState.ACCEPTED
        row.final_status = decide_status(row, None)
    return rows


async def statuses(outbox_fixture: OutboxFixture, *rows: Notification) -> list[str]:
    return [await outbox_fixture.status(row.id) for row in rows]


async def test_f187_locked_row_leaves_the_others_of_its_batch_settled(outbox_fixture: OutboxFixture):
    rows = await accepted(outbox_fixture, 3)
    async with locked(outbox_fixture, rows[1].id):
        async with asyncio.timeout(QUICK_SECONDS):
            written = await outbox_fixture.outbox.settle(members_of(*rows), rows)
        assert [row.id for row in written] == [rows[0].id, rows[2].id]
        assert [row.locked for row in rows] == [False, True, False]
        assert await statuses(outbox_fixture, *rows) == ["SENT", "PROCESSING", "SENT"]
        head, [entry] = await outbox_fixture.head(rows[1].id), await outbox_fixture.entries(rows[1].id)
        assert (head["settled_at"], head["lease_owner"]) == (None, "here"), "its run comes back for it"
        assert entry["state"] == "accepted", "what Novu said is kept at once"
    [again] = await outbox_fixture.acquire(rows[1].id)
    again.final_status = decide_status(again, None)
    assert await outbox_fixture.outbox.settle([], [again]) == [again]
    assert await outbox_fixture.status(again.id) == "SENT"


async def test_f187_lock_of_a_moment_is_waited_for(outbox_fixture: OutboxFixture):
    [row] = await accepted(outbox_fixture, 1)
    async with locked(outbox_fixture, row.id) as producer:
        settling = asyncio.create_task(outbox_fixture.outbox.settle(members_of(row), [row]))

        async def outcome_is_kept() -> bool:
            return [entry["state"] for entry in await outbox_fixture.entries(row.id)] == ["accepted"]

        await eventually(outcome_is_kept, "the first try")
        await producer.commit()
        assert await settling == [row]
    assert await outbox_fixture.status(row.id) == "SENT"


async def test_f187_row_that_is_locked_and_not_processing_is_settled(outbox_fixture: OutboxFixture):
    [row] = await accepted(outbox_fixture, 1)
    await outbox_fixture.change(row.id, notification_status="RETRACTED")
    async with locked(outbox_fixture, row.id):
        assert await outbox_fixture.outbox.settle(members_of(row), [row]) == []
    assert not row.locked
    assert (await outbox_fixture.head(row.id))["settled_at"] is not None


async def test_f187_locked_retracted_row_stops_no_other_retraction(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(3)]
    for row in rows:
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="RETRACTED")
    async with locked(outbox_fixture, rows[0].id):
        async with asyncio.timeout(QUICK_SECONDS):
            # Less than the number of retracted rows: the locked one does not use up the limit.
            assert await outbox_fixture.outbox.detect_retracted(2) == {rows[1].id: 1, rows[2].id: 1}
    assert await outbox_fixture.outbox.detect_retracted(2) == {rows[0].id: 1}


async def test_f187_locked_row_is_released_by_the_next_sweep_and_spends_no_attempt(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(2)]
    async with locked(outbox_fixture, rows[0].id):
        async with asyncio.timeout(QUICK_SECONDS):
            await outbox_fixture.outbox.release(rows)
        assert await statuses(outbox_fixture, *rows) == ["PROCESSING", "PENDING"]
    await rescued_as_its_first_attempt(outbox_fixture, rows[0])


async def rescued_as_its_first_attempt(outbox_fixture: OutboxFixture, row: Notification) -> None:
    [expired] = await outbox_fixture.outbox.find_expired(10)
    assert expired.ids == [row.id]
    start = await outbox_fixture.outbox.rescue(expired, LEASE)
    assert start is not None
    [again] = await outbox_fixture.acquire(*start.notification_ids)
    assert (again.attempts, again.fence > row.fence) == (1, True)


async def test_f187_locked_row_of_a_refused_start_holds_up_no_other(outbox_fixture: OutboxFixture):
    ids = await outbox_fixture.many(2)
    [start] = (await outbox_fixture.claim()).starts
    async with locked(outbox_fixture, ids[1]):
        async with asyncio.timeout(QUICK_SECONDS):
            await outbox_fixture.outbox.release_unstarted(WorkflowStart(start.workflow_id, ids, first_try=False))
        assert [await outbox_fixture.status(each) for each in ids] == ["PENDING", "PROCESSING"]
    [expired] = await outbox_fixture.outbox.find_expired(10)
    assert expired.ids == [ids[1]]


async def test_f187_locked_row_of_a_stopped_node_holds_up_no_other(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(2)]
    async with locked(outbox_fixture, rows[0].id):
        async with asyncio.timeout(QUICK_SECONDS):
            assert await outbox_fixture.outbox.release_node() == 1
        assert await statuses(outbox_fixture, *rows) == ["PROCESSING", "PENDING"]
    await rescued_as_its_first_attempt(outbox_fixture, rows[0])


async def test_f187_locked_row_that_the_owner_set_to_processing_waits_for_the_next_sweep(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(2)]
    for row in rows:
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="PROCESSING")
    foreign = ForeignStatuses(outbox_fixture.outbox)
    async with locked(outbox_fixture, rows[0].id):
        async with asyncio.timeout(QUICK_SECONDS):
            assert await foreign.put_back() == 1
        assert [await outbox_fixture.status(row.id) for row in rows] == ["PROCESSING", "SENT"]
    assert await foreign.put_back() == 1
    assert await outbox_fixture.status(rows[0].id) == "SENT"


@pytest.mark.parametrize("statement", ["settle", "release", "detect_retracted"])
async def test_f187_statement_beside_an_owner_who_locks_in_another_order_has_no_deadlock(
    outbox_fixture: OutboxFixture, statement: str
):
    rows = await accepted(outbox_fixture, 2)
    if statement == "detect_retracted":
        await outbox_fixture.outbox.settle(members_of(*rows), rows)
        for row in rows:
            await outbox_fixture.change(row.id, notification_status="RETRACTED")
    ours = {
        "settle": lambda: outbox_fixture.outbox.settle(members_of(*rows), rows),
        "release": lambda: outbox_fixture.outbox.release(rows),
        "detect_retracted": lambda: outbox_fixture.outbox.detect_retracted(10),
    }[statement]
    async with locked(outbox_fixture, rows[1].id) as producer:
        await ours()
        await producer.execute("update notify.ent_notification set name = name where id = %s", [rows[0].id])
        await producer.commit()
    assert ids_of(await outbox_fixture.claim()) == ([rows[0].id] if statement == "release" else [])
