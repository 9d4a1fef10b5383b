"""The ledger loses what is older than its retention, and nothing that is still needed."""

from datetime import timedelta

import anyio
import psycopg
import pytest

from dispatcher.models.notification import RecipientState
from dispatcher.postgres.pruning import BEFORE_ALL_IDS
from tests.postgres.old_ledger import ACCEPTED, REFUSED, UNKNOWN, Make, ended, make_old, prune, pruning_of, sent
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of


async def retracted(fixture: OutboxFixture) -> int:
    row = await sent(fixture)
    await fixture.change(row, notification_status="RETRACTED")
    assert await fixture.outbox.detect_retracted(10) == {row: 1}
    return row


async def cancelled(fixture: OutboxFixture) -> int:
    row = await retracted(fixture)
    [cancel] = await fixture.outbox.acquire_cancels(10, LEASE)
    cancel.state, cancel.retry_in = RecipientState.CANCELLED, None
    await fixture.outbox.record_cancels([cancel])
    return row


async def newly_retracted(fixture: OutboxFixture) -> int:
    row = await sent(fixture)
    await fixture.change(row, notification_status="RETRACTED")
    return row


async def to_be_resent(fixture: OutboxFixture) -> int:
    row = await sent(fixture)
    await fixture.change(row, notification_status="PENDING")
    return row


async def in_work(fixture: OutboxFixture) -> int:
    row = await fixture.acquired()
    await fixture.outbox.record_calls(calls_of(row))
    return row.id


async def released(fixture: OutboxFixture) -> int:
    row = await fixture.acquired()
    await fixture.outbox.record_calls(calls_of(row))
    await fixture.outbox.release([row])
    return row.id


async def open_with_a_status_of_its_owner(fixture: OutboxFixture) -> int:
    row = await released(fixture)
    await fixture.change(row, notification_status="SENT")
    return row


async def without_lease(fixture: OutboxFixture) -> int:
    row = await in_work(fixture)
    await fixture.rows("update dispatcher.delivery set lease_until = null")
    return row


async def refused_by_the_table(fixture: OutboxFixture) -> int:
    row = await sent(fixture)
    await fixture.rows("update dispatcher.delivery set refused_version = '1', last_error = 'refused'")
    return row


KEPT: dict[str, Make] = {
    "in work": in_work,
    "released": released,
    "open without a lease": without_lease,
    "open with a status of its owner": open_with_a_status_of_its_owner,
    "waits for its retry": lambda fixture: ended(fixture, UNKNOWN, wait=timedelta(days=400)),
    "partial": lambda fixture: ended(fixture, ACCEPTED, REFUSED),
    "dead letter": lambda fixture: ended(fixture, REFUSED),
    "to be cancelled": retracted,
    "retracted a moment ago": newly_retracted,
    "to be sent again": to_be_resent,
    "refused by the table": refused_by_the_table,
}


@pytest.mark.parametrize("kind", KEPT)
async def test_f231_what_is_still_needed_is_kept(outbox_fixture: OutboxFixture, kind: str):
    row = await KEPT[kind](outbox_fixture)
    await make_old(outbox_fixture)
    before = await outbox_fixture.snapshot()
    assert await prune(outbox_fixture) == (0, 0)
    assert await outbox_fixture.snapshot() == before
    assert await outbox_fixture.entries(row)


@pytest.mark.parametrize("make", [sent, cancelled])
async def test_f231_old_outcome_loses_its_recipients_and_keeps_a_tombstone(outbox_fixture: OutboxFixture, make: Make):
    row = await make(outbox_fixture)
    await make_old(outbox_fixture, days=29)
    assert await prune(outbox_fixture) == (0, 0)
    await make_old(outbox_fixture, days=2)
    outbox_row = await outbox_fixture.row(row)
    before = await outbox_fixture.head(row)
    assert await prune(outbox_fixture) == (1, 0)
    after = await outbox_fixture.head(row)
    assert after == before | {"pruned_in": 1, "recipient_count": None}
    assert await outbox_fixture.entries(row) == []
    assert await outbox_fixture.row(row) == outbox_row
    assert await prune(outbox_fixture) == (0, 0)


@pytest.mark.parametrize("kind", [*KEPT, "sent"])
async def test_f231_ledger_of_a_deleted_row_goes_unless_somebody_works_on_it(outbox_fixture: OutboxFixture, kind: str):
    row = await (KEPT | {"sent": sent})[kind](outbox_fixture)
    await make_old(outbox_fixture, days=29)
    await outbox_fixture.rows("delete from notify.ent_notification")
    assert await prune(outbox_fixture) == (0, 0)
    await make_old(outbox_fixture, days=2)
    kept = kind in ("in work", "to be cancelled")
    recipients = 2 if kind == "partial" else 1
    assert await prune(outbox_fixture) == ((0, 0) if kept else (recipients, 1))
    assert len(await outbox_fixture.entries(row)) == (recipients if kept else 0)


async def test_f232_resend_of_a_pruned_row_is_a_new_generation(outbox_fixture: OutboxFixture):
    first = await outbox_fixture.acquired()
    await outbox_fixture.settle(first, ACCEPTED)
    await make_old(outbox_fixture)
    assert await prune(outbox_fixture) == (1, 0)
    await outbox_fixture.change(first.id, notification_status="PENDING")
    assert ids_of(await outbox_fixture.claim()) == [first.id]
    [again] = await outbox_fixture.acquire(first.id)
    assert (again.generation, again.recipients[0].state) == (2, RecipientState.PLANNED)
    assert again.recipients[0].transaction_id != first.recipients[0].transaction_id
    await outbox_fixture.settle(again, ACCEPTED)
    assert (await outbox_fixture.head(first.id))["recipient_count"] == 1
    assert await outbox_fixture.status(first.id) == "SENT"


async def test_f232_retraction_of_a_pruned_row_is_noted_and_cancels_nothing(outbox_fixture: OutboxFixture):
    row = await sent(outbox_fixture)
    await make_old(outbox_fixture)
    await prune(outbox_fixture)
    await outbox_fixture.change(row, notification_status="RETRACTED")
    assert await outbox_fixture.outbox.detect_retracted(10) == {row: 0}
    assert await outbox_fixture.outbox.acquire_cancels(10, LEASE) == []


@pytest.mark.parametrize("theirs", ["FAILED", "PROCESSING"])
async def test_f232_foreign_status_on_a_pruned_row_is_put_back(outbox_fixture: OutboxFixture, theirs: str):
    row = await sent(outbox_fixture)
    await make_old(outbox_fixture)
    await prune(outbox_fixture)
    await outbox_fixture.change(row, notification_status=theirs)
    found, _ = await outbox_fixture.outbox.find_foreign_statuses(0, 10)
    await outbox_fixture.outbox.put_statuses_back(found)
    assert await outbox_fixture.status(row) == "SENT"
    assert await outbox_fixture.outbox.adopt_orphans(LEASE, 10) == 0


async def test_f232_row_of_many_recipients_is_pruned_in_steps(outbox_fixture: OutboxFixture):
    row, other = await ended(outbox_fixture, *[ACCEPTED] * 25), await sent(outbox_fixture)
    await make_old(outbox_fixture)
    pruning = pruning_of(outbox_fixture)
    vars(pruning)["_recipients"] = 10
    step = await pruning.prune(BEFORE_ALL_IDS)
    assert (step.recipients, step.walked_to) == (10, row - 1)
    head = await outbox_fixture.head(row)
    assert (head["pruned_in"], head["recipient_count"]) == (1, None), "it never looks like half a ledger"
    assert (await outbox_fixture.head(other))["pruned_in"] is None
    assert await prune(outbox_fixture) == (16, 0)


async def test_f231_locked_head_is_left_to_the_next_walk(outbox_fixture: OutboxFixture):
    rows = [await sent(outbox_fixture) for _ in range(3)]
    await make_old(outbox_fixture)
    async with await psycopg.AsyncConnection.connect(outbox_fixture.url) as other:
        lock = "select from dispatcher.delivery where notification_id = %s for no key update"
        await other.execute(lock, [rows[1]])
        with anyio.fail_after(2):
            step = await pruning_of(outbox_fixture).prune(BEFORE_ALL_IDS)
        assert step.recipients == 2
        await other.rollback()
    assert await prune(outbox_fixture) == (1, 0)


async def test_f231_only_the_node_with_the_lowest_id_prunes(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture)
    for name in ("a", "b"):
        node = await outbox_fixture.node(name)
        await node.heartbeat(role="all", host="here", version="1", mode="EVENT")
    assert (await pruning_of(outbox_fixture, "b").prune(BEFORE_ALL_IDS)).recipients == 0
    assert (await pruning_of(outbox_fixture, "a").prune(BEFORE_ALL_IDS)).recipients == 1


async def test_f231_two_prunes_at_once_delete_each_recipient_once(outbox_fixture: OutboxFixture):
    for _ in range(12):
        await sent(outbox_fixture)
    await make_old(outbox_fixture)
    deleted: list[int] = []

    async def walk() -> None:
        deleted.append((await pruning_of(outbox_fixture).prune(BEFORE_ALL_IDS)).recipients)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(walk)
    assert sum(deleted) == 12
    assert await outbox_fixture.value("select count(*) from dispatcher.delivery where pruned_in = 1") == 12


async def test_f231_step_that_takes_too_long_is_undone_and_made_smaller(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture)
    slow = "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(9); return old; end'"
    await outbox_fixture.rows(slow)
    await outbox_fixture.rows(
        "create trigger slow before delete on dispatcher.recipient for each row execute function slow()"
    )
    pruning = pruning_of(outbox_fixture)
    step = await pruning.prune(BEFORE_ALL_IDS)
    assert step == (BEFORE_ALL_IDS, 0, 0, 0)
    assert vars(pruning)["_heads"] < 500
    await outbox_fixture.rows("drop trigger slow on dispatcher.recipient")
    assert (await pruning.prune(BEFORE_ALL_IDS)).recipients == 1
