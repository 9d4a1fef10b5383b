"""Pruning beside resends and retractions of the same rows, in a large ledger, and without its right."""

from datetime import timedelta
from uuid import uuid4

import anyio
import pytest
import structlog

from dispatcher.claim.pruner import Pruner
from dispatcher.decisions.final_status import decide_status
from dispatcher.decisions.unknown_outcomes import calls_needing_lookup
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.pool import borrow_connection, open_pool
from dispatcher.postgres.pruning import BEFORE_ALL_IDS, LedgerPruning
from dispatcher.postgres.restore_guard import NEVER_PRUNED_SECONDS
from tests.postgres.old_ledger import ACCEPTED, MONTH, REFUSED, UNKNOWN, ended, make_old, prune, pruning_of, sent
from tests.support.outbox_fixture import RELATIONS, OutboxFixture, calls_of, ids_of, members_of
from tests.support.waits import eventually


async def walk(fixture: OutboxFixture, times: int) -> None:
    """Prune in the smallest steps."""
    for _ in range(times):
        pruning = pruning_of(fixture)
        vars(pruning)["_recipients"] = 3
        after: int | None = BEFORE_ALL_IDS
        while after is not None:
            after = (await pruning.prune(after)).walked_to


async def resend(fixture: OutboxFixture, rows: list[int]) -> None:
    """Send the rows again, each with a claim of its own."""
    for each in rows:
        await fixture.rows("update notify.ent_notification set notification_status = 'PENDING' where id = %s", each)
        await fixture.claim()
    for row in await fixture.acquire(*rows):
        await fixture.settle(row, ACCEPTED)


async def retract(fixture: OutboxFixture, rows: list[int], to_cancel: dict[int, int]) -> None:
    """Retract the rows one by one, until each is detected; note how many recipients are to be cancelled."""
    for each in rows:
        await fixture.rows("update notify.ent_notification set notification_status = 'RETRACTED' where id = %s", each)
        to_cancel |= await fixture.outbox.detect_retracted(100)
    while len(to_cancel) < len(rows):
        to_cancel |= await fixture.outbox.detect_retracted(100)


async def test_f231_prune_beside_resends_and_retractions_loses_none_of_them(outbox_fixture: OutboxFixture):
    rows, to_cancel = await outbox_fixture.many(60), dict[int, int]()
    assert set(ids_of(await outbox_fixture.claim())) == set(rows)
    for row in await outbox_fixture.acquire(*rows):
        await outbox_fixture.settle(row, ACCEPTED)
    await make_old(outbox_fixture)
    resent, retracted = rows[::-3], rows[1::3]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(walk, outbox_fixture, 15)
        tasks.start_soon(walk, outbox_fixture, 15)
        tasks.start_soon(resend, outbox_fixture, resent)
        tasks.start_soon(retract, outbox_fixture, retracted, to_cancel)
    for each in resent:
        head, entries = await outbox_fixture.head(each), await outbox_fixture.entries(each)
        assert (head["generation"], head["recipient_count"]) == (2, 1)
        assert [entry["state"] for entry in entries if entry["generation"] == 2] == ["accepted"]
    marked = await outbox_fixture.rows(
        "select notification_id, count(*) from dispatcher.recipient where cancel_at is not null group by 1"
    )
    assert dict(marked) == {each: count for each, count in to_cancel.items() if count}


async def test_f231_step_reads_no_more_of_a_large_ledger_than_its_heads(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows(
        "insert into notify.ent_notification (name, publish_status, payload, recipients, notification_status)"
        " select 'n ' || i, 'PUBLISH', '{}', array[gen_random_uuid()], 'SENT' from generate_series(1, 100000) i"
    )
    await outbox_fixture.rows(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at,"
        " settled_at, recipient_count) select id, 'birth', 1, 1, now(), now(), now() - interval '40 d', 1"
        " from notify.ent_notification"
    )
    await outbox_fixture.rows(
        "insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, state)"
        " select notification_id, 1, 'r', 0, 't', 'accepted' from dispatcher.delivery"
    )
    pruning = pruning_of(outbox_fixture)
    first = await outbox_fixture.value("select min(id) from notify.ent_notification")
    for name in ("_prune", "_count"):
        sizes = {"heads": 500, "recipients": 1000, "after": first + 50_000, **vars(pruning)["_parameters"]}
        async with outbox_fixture.pool.connection() as connection:
            explain = b"explain (analyze, buffers, format json) " + vars(pruning)[name]
            [[[explained]]] = await (await connection.execute(explain, sizes)).fetchall()
        plan = explained["Plan"]
        assert "Seq Scan" not in str(plan)
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40 * 500


async def test_f232_pruned_head_of_the_last_call_is_no_lost_commit(outbox_fixture: OutboxFixture):
    guard = outbox_fixture.outbox.guard
    async with borrow_connection(outbox_fixture.pool) as connection:
        await guard.enable(connection)
    row = await sent(outbox_fixture)
    await outbox_fixture.rows("delete from notify.ent_notification")
    await make_old(outbox_fixture)
    assert await prune(outbox_fixture) == (1, 1)
    vars(guard)["_called_at"] -= NEVER_PRUNED_SECONDS
    async with borrow_connection(outbox_fixture.pool) as connection:
        await guard.check(connection)
        assert not await outbox_fixture.value("select restored_at is not null from dispatcher.installation")
        await outbox_fixture.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at)"
            " values (%s, 'b', 1, 0, now(), now())",
            row,
        )
        await guard.check(connection)
    assert await outbox_fixture.value("select restored_at is not null from dispatcher.installation"), "a lower fence"


async def test_f234_missing_grant_is_logged_once_and_stops_nothing(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture)
    await outbox_fixture.rows("create role no_prune login")
    await outbox_fixture.rows("grant usage on schema notify, dispatcher to no_prune")
    await outbox_fixture.rows("grant select on all tables in schema notify, dispatcher to no_prune")
    await outbox_fixture.rows("grant update on dispatcher.delivery to no_prune")
    try:
        pool = await open_pool(outbox_fixture.url.replace("//postgres@", "//no_prune@"))
        pruner = Pruner(LedgerPruning(pool, RELATIONS.outbox, age=MONTH), step_pause=0)
        with structlog.testing.capture_logs() as logged:
            assert [await pruner.run_once() for _ in range(3)] == [(0, 0)] * 3
        assert [line["event"] for line in logged] == ["ledger_not_pruned"]
        await outbox_fixture.rows("grant delete on dispatcher.delivery, dispatcher.recipient to no_prune")
        assert await pruner.run_once() == (1, 0)
        await pool.close(timeout=2)
    finally:
        await outbox_fixture.rows("drop owned by no_prune; drop role no_prune")


@pytest.mark.parametrize("state", [ACCEPTED, REFUSED, UNKNOWN])
async def test_f234_outcome_empties_the_columns_of_its_call(outbox_fixture: OutboxFixture, state: RecipientState):
    row = await ended(outbox_fixture, state, wait=timedelta(hours=1))
    [entry] = await outbox_fixture.entries(row)
    call = entry["call_key"], entry["call_ordinal"], entry["body_hash"]
    assert (call == ("", None, None)) == (state is not UNKNOWN)
    assert all(each is not None for each in call) == (state is UNKNOWN)


async def test_f234_doubted_outcome_without_its_call_is_looked_up(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    for recipient, state in zip(row.recipients, (ACCEPTED, UNKNOWN), strict=True):
        recipient.state = state
    row.final_status = decide_status(row, timedelta(0))
    await outbox_fixture.outbox.settle(members_of(row), [row])
    await outbox_fixture.rows("update dispatcher.delivery set recipient_count = 1")
    assert ids_of(await outbox_fixture.claim()) == [row.id]
    [again] = await outbox_fixture.acquire(row.id)
    assert {recipient.state for recipient in again.recipients} == {UNKNOWN}
    assert len(list(calls_needing_lookup([again], idempotency_on=True))) >= 1
    assert all(member.is_unknown for member in members_of(again)), "none of them is simply called again"


@pytest.mark.parametrize("status", ["RETRACTED", "PENDING"])
async def test_f231_change_between_look_and_lock_of_a_step_is_noticed(outbox_fixture: OutboxFixture, status: str):
    row = await sent(outbox_fixture)
    await make_old(outbox_fixture)
    pruning, look = pruning_of(outbox_fixture), b"where n.id = w.notification_id"
    assert look in vars(pruning)["_prune"]
    vars(pruning)["_prune"] = vars(pruning)["_prune"].replace(look, look + b" and pg_sleep(0.5) is not null")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pruning.prune, BEFORE_ALL_IDS)
        await eventually(lambda: is_sleeping(outbox_fixture), "a step that sleeps")
        await outbox_fixture.change(row, notification_status=status)
        if status == "PENDING":
            assert ids_of(await outbox_fixture.claim()) == [row]
        else:
            assert await outbox_fixture.outbox.detect_retracted(10) == {row: 1}
    head, [entry] = await outbox_fixture.head(row), await outbox_fixture.entries(row)
    assert head["pruned_in"] is None
    assert (entry["cancel_at"] is not None) == (status == "RETRACTED")


async def is_sleeping(fixture: OutboxFixture) -> bool:
    return await fixture.value(
        "select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())"
    )
