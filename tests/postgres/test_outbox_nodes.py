"""The heartbeat of a node, and its release: its rows are PENDING at once."""

from uuid import uuid4

import pytest

from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, members_of

HELLO = {"role": "all", "host": "here.test", "version": "1"}


async def test_repeated_heartbeats_of_a_node_are_one_row(outbox_fixture: OutboxFixture):
    await outbox_fixture.outbox.heartbeat(**HELLO, mode="POLLING")
    [(started, seen)] = await outbox_fixture.rows("select started_at, seen_at from dispatcher.node")
    await outbox_fixture.outbox.heartbeat(**HELLO, mode="EVENT")
    [(name, mode, started_again, seen_again)] = await outbox_fixture.rows(
        "select id, mode, started_at, seen_at from dispatcher.node"
    )
    assert (name, mode, started_again) == ("here", "EVENT", started)
    assert seen_again > seen


async def test_heartbeat_tells_the_first_live_node(outbox_fixture: OutboxFixture):
    there = await outbox_fixture.node("there")
    assert await there.heartbeat(**HELLO, mode="EVENT")
    assert await outbox_fixture.outbox.heartbeat(**HELLO, mode="EVENT")
    assert not await there.heartbeat(**HELLO, mode="EVENT")
    await outbox_fixture.rows("update dispatcher.node set seen_at = seen_at - interval '61 s' where id = 'here'")
    assert await there.heartbeat(**HELLO, mode="EVENT")


async def test_node_counts_only_its_own_leases(outbox_fixture: OutboxFixture):
    await outbox_fixture.many(5)
    await outbox_fixture.claim(limit=3)
    there = await outbox_fixture.node("there")
    await outbox_fixture.claim(there)
    assert [await outbox_fixture.outbox.count_leased(), await there.count_leased()] == [3, 2]


async def test_stopping_node_releases_its_rows(outbox_fixture: OutboxFixture):
    there = await outbox_fixture.node("there")
    for node in (outbox_fixture.outbox, there):
        await node.heartbeat(**HELLO, mode="EVENT")
    ids = await outbox_fixture.many(5)
    await outbox_fixture.claim(limit=3)
    await outbox_fixture.claim(there)
    assert await outbox_fixture.outbox.release_node() == 3
    assert await outbox_fixture.rows("select id from dispatcher.node") == [("there",)]
    assert [await outbox_fixture.status(row) for row in ids] == ["PENDING"] * 3 + ["PROCESSING"] * 2
    head = await outbox_fixture.head(ids[0])
    assert (head["lease_until"], head["attempts"], head["fence"]) == (None, 0, 2)
    assert ids_of(await outbox_fixture.claim(there)) == ids[:3]


@pytest.mark.parametrize("state", [RecipientState.SENDING, RecipientState.UNKNOWN])
async def test_row_with_an_unknown_call_is_left_to_the_next_sweep(outbox_fixture: OutboxFixture, state: RecipientState):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, state
    await outbox_fixture.outbox.settle(members_of(row), [])
    assert await outbox_fixture.outbox.release_node() == 0
    assert await outbox_fixture.status(row.id) == "PROCESSING"
    assert (await outbox_fixture.head(row.id))["attempts"] == 1
    there = await outbox_fixture.node("there")
    [found] = await there.find_expired(100)
    start = await there.rescue(found, LEASE)
    assert start is not None
    assert start.notification_ids == [row.id]


async def test_row_without_an_unknown_call_is_pending_at_once(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, RecipientState.PLANNED
    await outbox_fixture.outbox.settle(members_of(row), [])
    assert await outbox_fixture.outbox.release_node() == 1
    assert await outbox_fixture.status(row.id) == "PENDING"


async def test_retracted_row_stays_retracted_when_its_node_stops(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.change(row.id, notification_status="RETRACTED")
    assert await outbox_fixture.outbox.release_node() == 0
    assert await outbox_fixture.status(row.id) == "RETRACTED"
    assert await outbox_fixture.outbox.count_leased() == 0


async def test_node_changes_nothing_after_its_release(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.release_node()
    assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    assert await outbox_fixture.status(row.id) == "PENDING"
