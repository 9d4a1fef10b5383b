"""Processes die while they read rows: the suspects are read alone and last, and the row that is to blame ends."""

from typing import Any, NoReturn

import pytest

from dispatcher.decisions.final_status import decide_status
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.models.notification import Notification, RecipientState, Status
from dispatcher.models.workflow_contract import THROTTLED
from dispatcher.novu.client import NovuClient
from dispatcher.postgres import reading
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.row_filter import RowFilter
from tests.support.activity_runs import LIMITS, run_activity
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, members_of
from tests.support.replace_attribute import replace_attribute

DEAD = "three tries ended with the death of the process that read it"
HEAD = "select reading_since is not null, reading_deaths from dispatcher.delivery where notification_id = %s"


class DiedError(BaseException):
    """The process is gone: nothing that it does after reading happens."""


async def die(*_: Any, **__: Any) -> NoReturn:
    """Stand for all that a dead process does not do any more."""
    raise DiedError


def raise_memory_error(*_: Any) -> NoReturn:
    """Fail as a process does that has too little memory, and lives."""
    raise MemoryError


async def dying_node(outbox_fixture: OutboxFixture) -> OutboxStore:
    """Return the outbox of a process that dies whenever it reads a row alone."""
    store = await outbox_fixture.node("dies")
    replace_attribute(store, "end_reading", die)
    return store


async def batch(outbox_fixture: OutboxFixture, count: int) -> tuple[list[int], str]:
    """Claim `count` new rows as one batch; return their ids and their workflow's id."""
    ids = sorted(await outbox_fixture.many(count))
    [start] = (await outbox_fixture.claim()).starts
    return ids, start.workflow_id


async def read(store: OutboxStore, ids: list[int], workflow_id: str, tries: int = 1) -> list[Notification]:
    """Acquire rows as one part of a try, as often as the process does not die."""
    for _ in range(tries - 1):
        with pytest.raises(DiedError):
            await store.acquire(ids, workflow_id, LEASE)
    return [item.notification for item in await store.acquire(ids, workflow_id, LEASE)]


async def test_f176_rows_that_were_read_before_a_death_are_read_alone_and_last(outbox_fixture: OutboxFixture):
    ids, workflow_id = await batch(outbox_fixture, 4)
    suspects = ids[:2]
    assert [row.id for row in await read(outbox_fixture.outbox, suspects, workflow_id)] == suspects
    # The process died here. The next try reads the others first.
    others = await outbox_fixture.outbox.acquire(ids, workflow_id, LEASE)
    assert [item.notification.id for item in others] == ids[2:]
    again = await outbox_fixture.outbox.acquire(suspects, workflow_id, LEASE, try_began=others[0].read_at)
    assert [(item.notification.id, item.notification.payload) for item in again] == [(each, "{}") for each in suspects]
    assert all(len(item.notification.recipients) == 1 for item in again)
    assert [await outbox_fixture.rows(HEAD, each) for each in suspects] == [[(False, None)]] * 2
    assert await outbox_fixture.outbox.record_calls(calls_of(*(item.notification for item in again)))


async def test_f176_row_that_three_processes_died_of_alone_ends_unread(outbox_fixture: OutboxFixture):
    ids, workflow_id = await batch(outbox_fixture, 2)
    culprit, innocent = ids
    dying = await dying_node(outbox_fixture)
    await read(dying, ids, workflow_id)  # nobody knows yet which of them
    for deaths in (1, 2, 3):
        with pytest.raises(DiedError):
            await dying.acquire([culprit], workflow_id, LEASE)
        assert await outbox_fixture.rows(HEAD, culprit) == [(True, deaths)]
    [row] = await read(dying, [culprit], workflow_id)
    assert (row.validation_error, row.payload, row.recipients) == (DEAD, "{}", [])
    [fine] = await read(outbox_fixture.outbox, [innocent], workflow_id)
    assert fine.validation_error is None


async def test_f176_death_accuses_only_the_row_that_was_read(outbox_fixture: OutboxFixture):
    ids, workflow_id = await batch(outbox_fixture, 3)
    dying = await dying_node(outbox_fixture)
    await read(dying, ids, workflow_id)
    with pytest.raises(DiedError):
        await dying.acquire(ids, workflow_id, LEASE)
    assert [await outbox_fixture.rows(HEAD, each) for each in ids] == [[(True, 1)], [(True, None)], [(True, None)]]
    # The rows that no process died of alone come before the one that is accused.
    assert [row.id for row in await read(outbox_fixture.outbox, ids, workflow_id)] == ids[1:]
    assert [row.id for row in await read(outbox_fixture.outbox, ids[:1], workflow_id)] == ids[:1]
    assert await outbox_fixture.rows(HEAD, ids[0]) == [(False, None)], "it was read: the next death is the first"


async def test_f176_dead_letter_tells_the_reason_and_a_resend_begins_anew(
    outbox_fixture: OutboxFixture, queries: OperatorQueries
):
    [row_id], workflow_id = await batch(outbox_fixture, 1)
    dying = await dying_node(outbox_fixture)
    await read(dying, [row_id], workflow_id)
    for _ in range(3):
        with pytest.raises(DiedError):
            await dying.acquire([row_id], workflow_id, LEASE)
    activities = DeliveryActivities(outbox_fixture.outbox, NovuClient("key", "http://127.0.0.1:9"), LIMITS)
    assert await run_activity(outbox_fixture, activities, [row_id]) == ""
    head = await outbox_fixture.head(row_id)
    assert (head["last_error"], head["next_attempt_at"], head["reading_deaths"]) == (DEAD, None, None)
    assert head["dead_lettered_at"] is not None
    assert (await outbox_fixture.row(row_id))["error_details"]["error"] == DEAD
    [listed], shown = await queries.list_rows(RowFilter(dead=True), 10), await queries.find_row(row_id)
    assert shown is not None
    assert (listed["error"], shown["error"]) == (DEAD, DEAD)
    await outbox_fixture.change(row_id, notification_status="PENDING")
    await outbox_fixture.claim()
    [again] = await outbox_fixture.acquire(row_id)
    assert (again.generation, again.validation_error) == (2, None)


async def test_f176_calls_of_a_row_that_is_not_read_any_more_are_told(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state = RecipientState.ACCEPTED
    await outbox_fixture.outbox.settle(members_of(row), [])
    await outbox_fixture.rows("update dispatcher.delivery set reading_deaths = 3")
    await outbox_fixture.rows("update notify.ent_notification set recipients = recipients || gen_random_uuid()")
    [again] = await outbox_fixture.acquire(row.id)
    assert (again.validation_error, again.has_unread_recipients) == (DEAD, True)
    assert [recipient.state for recipient in again.recipients] == [RecipientState.ACCEPTED], "only those in the ledger"
    assert decide_status(again, None).status is Status.PARTIAL


async def test_f179_row_whose_call_was_recorded_before_the_death_is_no_suspect(outbox_fixture: OutboxFixture):
    ids, workflow_id = await batch(outbox_fixture, 3)
    for _ in range(5):  # each process dies after the record, for example because it is killed
        rows = await read(outbox_fixture.outbox, ids, workflow_id)
        assert [row.id for row in rows] == ids, "together, so that the call is repeated as it was"
        assert len(await outbox_fixture.outbox.record_calls(calls_of(*rows))) == len(ids)
        assert [await outbox_fixture.rows(HEAD, each) for each in ids] == [[(True, None)]] * 3, "none is read alone"


@pytest.mark.parametrize("end", ["throttled", "handed back", "failed"])
async def test_f179_try_that_ends_accuses_nobody(outbox_fixture: OutboxFixture, end: str):
    [row_id], workflow_id = await batch(outbox_fixture, 1)
    novu = NovuClient("key", "http://127.0.0.1:9")
    activities = DeliveryActivities(outbox_fixture.outbox, novu, LIMITS)
    if end == "throttled":  # before a call was recorded
        novu.rate_limiter.update_from(429, {"retry-after": "60"})
        assert await run_activity(outbox_fixture, activities, [row_id], local=True) == THROTTLED
        assert await outbox_fixture.entries(row_id) == []
    else:
        [row] = await read(outbox_fixture.outbox, [row_id], workflow_id)
        if end == "handed back":
            await outbox_fixture.outbox.release([row])
        else:
            await outbox_fixture.settle(row, RecipientState.REFUSED)
    assert await outbox_fixture.rows(HEAD, row_id) == [(False, None)]


async def test_f179_row_that_could_not_be_read_is_no_death(
    outbox_fixture: OutboxFixture, monkeypatch: pytest.MonkeyPatch
):
    [row_id], workflow_id = await batch(outbox_fixture, 1)
    await read(outbox_fixture.outbox, [row_id], workflow_id)
    with monkeypatch.context() as no_memory:
        no_memory.setattr(reading, "parse_row", raise_memory_error)
        for _ in range(4):
            with pytest.raises(MemoryError):
                await outbox_fixture.outbox.acquire([row_id], workflow_id, LEASE)
            assert await outbox_fixture.rows(HEAD, row_id) == [(True, None)], "read alone, but not accused"
    [row] = await read(outbox_fixture.outbox, [row_id], workflow_id)
    assert row.validation_error is None


async def test_f179_parts_of_one_try_suspect_each_other_of_nothing(outbox_fixture: OutboxFixture):
    ids, workflow_id = await batch(outbox_fixture, 12)
    large = '{"x": "' + "x" * 500_000 + '"}'
    await outbox_fixture.rows("update notify.ent_notification set payload = %s", large)
    first = await outbox_fixture.outbox.acquire(ids, workflow_id, LEASE)
    rest = ids[len(first) :]
    assert rest
    second = await outbox_fixture.outbox.acquire(rest, workflow_id, LEASE, try_began=first[0].read_at)
    assert [item.notification.id for item in second] == rest
    assert await outbox_fixture.rows(HEAD, rest[0]) == [(True, None)], "read with the others, not alone"
