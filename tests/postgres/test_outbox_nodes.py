"""What a process tells about itself, and how it leaves: what it holds is somebody else's at once."""

from uuid import uuid4

import pytest
from ledger_books import LEASE, Books, calls_of, ids_of, members_of

from dispatcher.models.notification import State

HELLO = {"role": "all", "host": "here.test", "version": "1"}


async def test_a_node_is_one_row_however_often_it_tells(books: Books):
    await books.outbox.beat(**HELLO, mode="POLLING")
    [(started, seen)] = await books.rows("select started_at, seen_at from dispatcher.node")
    await books.outbox.beat(**HELLO, mode="EVENT")
    [(name, mode, started_again, seen_again)] = await books.rows(
        "select id, mode, started_at, seen_at from dispatcher.node"
    )
    assert (name, mode, started_again) == ("here", "EVENT", started)
    assert seen_again > seen


async def test_the_first_of_the_living_knows_it(books: Books):
    there = await books.node("there")
    assert await there.beat(**HELLO, mode="EVENT")
    assert await books.outbox.beat(**HELLO, mode="EVENT")
    assert not await there.beat(**HELLO, mode="EVENT")
    await books.rows("update dispatcher.node set seen_at = seen_at - interval '61 s' where id = 'here'")
    assert await there.beat(**HELLO, mode="EVENT")


async def test_a_node_counts_only_what_it_holds_itself(books: Books):
    await books.many(5)
    await books.claim(limit=3)
    there = await books.node("there")
    await books.claim(there)
    assert [await books.outbox.in_flight(), await there.in_flight()] == [3, 2]


async def test_a_node_that_leaves_hands_back_what_it_holds(books: Books):
    there = await books.node("there")
    for node in (books.outbox, there):
        await node.beat(**HELLO, mode="EVENT")
    ids = await books.many(5)
    await books.claim(limit=3)
    await books.claim(there)
    assert await books.outbox.farewell() == 3
    assert await books.rows("select id from dispatcher.node") == [("there",)]
    assert [await books.status(row) for row in ids] == ["PENDING"] * 3 + ["PROCESSING"] * 2
    head = await books.head(ids[0])
    assert (head["lease_until"], head["attempts"], head["fence"]) == (None, 0, 2)
    assert ids_of(await books.claim(there)) == ids[:3]


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN])
async def test_a_row_with_an_unknown_call_is_left_to_the_next_sweep(books: Books, state: State):
    row = await books.held(recipients=[uuid4(), uuid4()])
    await books.outbox.sending(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = State.ACCEPTED, state
    await books.outbox.settle(members_of(row), [])
    assert await books.outbox.farewell() == 0
    assert await books.status(row.id) == "PROCESSING"
    assert (await books.head(row.id))["attempts"] == 1
    there = await books.node("there")
    [found] = await there.expired(100)
    start = await there.rescue(found, LEASE)
    assert start is not None
    assert start.notification_ids == [row.id]


async def test_a_row_whose_calls_are_all_known_is_free_at_once(books: Books):
    row = await books.held(recipients=[uuid4(), uuid4()])
    await books.outbox.sending(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = State.ACCEPTED, State.PLANNED
    await books.outbox.settle(members_of(row), [])
    assert await books.outbox.farewell() == 1
    assert await books.status(row.id) == "PENDING"


async def test_a_retracted_row_stays_retracted_when_its_node_leaves(books: Books):
    row = await books.held()
    await books.change(row.id, notification_status="RETRACTED")
    assert await books.outbox.farewell() == 0
    assert await books.status(row.id) == "RETRACTED"
    assert await books.outbox.in_flight() == 0


async def test_what_a_node_still_does_after_leaving_changes_nothing(books: Books):
    row = await books.held()
    await books.outbox.farewell()
    assert await books.outbox.sending(calls_of(row)) == set()
    await books.settle(row, State.ACCEPTED)
    assert await books.status(row.id) == "PENDING"
