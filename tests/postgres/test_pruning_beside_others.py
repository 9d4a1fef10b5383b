"""Pruning beside resends and retractions of the same rows, and in a large ledger."""

import anyio

from dispatcher.postgres.pruning import BEFORE_ALL_IDS
from tests.postgres.old_ledger import ACCEPTED, make_old, pruning_of
from tests.support.outbox_fixture import OutboxFixture, ids_of


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
    assert set(ids_of(await outbox_fixture.claim(max_single=100))) == set(rows)
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
