"""Many sessions on the same rows: no two share a row, no deadlock occurs, and no row is lost."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, late, members_of


async def test_concurrent_claims_never_share_a_row(outbox_fixture: OutboxFixture):
    nodes = [await outbox_fixture.node(f"node-{number}") for number in range(4)]
    for _ in range(40):
        await outbox_fixture.rows("truncate dispatcher.delivery")
        await outbox_fixture.rows("delete from notify.ent_notification")
        ids = await outbox_fixture.many(40)
        claims = await asyncio.gather(*(outbox_fixture.claim(node, limit=15, batch_size=5) for node in nodes))
        taken = [row for claim in claims for row in ids_of(claim)]
        taken += ids_of(await outbox_fixture.claim(limit=100))
        assert sorted(taken) == ids
        owners = dict(await outbox_fixture.rows("select lease_owner, count(*) from dispatcher.delivery group by 1"))
        assert {f"node-{n}": len(ids_of(claim)) for n, claim in enumerate(claims) if claim.rows} | {
            "here": 40 - sum(claim.rows for claim in claims)
        } == ({"here": 0} | owners)


async def test_concurrent_claims_of_retries_never_share_a_row(outbox_fixture: OutboxFixture):
    ids = await outbox_fixture.many(30)
    await outbox_fixture.claim()
    nodes = [await outbox_fixture.node(f"node-{number}") for number in range(4)]
    for attempts in range(2, 30):
        await outbox_fixture.rows("update notify.ent_notification set notification_status = 'FAILED'")
        await outbox_fixture.rows(
            "update dispatcher.delivery set settled_at = now(), next_attempt_at = now(), lease_owner = null,"
            " lease_until = null"
        )
        claims = await asyncio.gather(*(outbox_fixture.claim(node, limit=10, batch_size=5) for node in nodes))
        taken = [row for claim in claims for row in ids_of(claim)]
        taken += ids_of(await outbox_fixture.claim())
        assert sorted(taken) == ids
        heads = await outbox_fixture.rows("select distinct attempts, generation from dispatcher.delivery")
        assert heads == [(attempts, 1)]


async def waiting(outbox_fixture: OutboxFixture, statements: int = 1) -> None:
    """Wait until so many statements wait for a lock."""
    async with asyncio.timeout(8):
        while len(await outbox_fixture.rows("select 1 from pg_locks where not granted")) < statements:  # noqa: ASYNC110  (a server)
            await asyncio.sleep(0.005)


GUARDED: dict[str, Callable[[OutboxFixture, Notification], Awaitable[Any]]] = {
    "sending": lambda outbox_fixture, row: outbox_fixture.outbox.record_calls(calls_of(row)),
    "settle": lambda outbox_fixture, row: outbox_fixture.settle(row, RecipientState.ACCEPTED),
    "hand_back": lambda outbox_fixture, row: outbox_fixture.outbox.release([row]),
    "rescue": lambda outbox_fixture, row: outbox_fixture.outbox.rescue(late(row), LEASE),
    "renew": lambda outbox_fixture, row: outbox_fixture.outbox.renew_leases([row.id], [row.fence], LEASE),
}


@pytest.mark.parametrize("name", GUARDED)
async def test_statement_that_waited_for_a_lock_checks_the_fence_again(outbox_fixture: OutboxFixture, name: str):
    row = await outbox_fixture.acquired()
    async with await psycopg.AsyncConnection.connect(outbox_fixture.url) as taker:
        await taker.execute("update dispatcher.delivery set fence = fence + 1")
        [[writer]] = await (await taker.execute("select pg_current_xact_id()::text")).fetchall()
        statement = asyncio.ensure_future(GUARDED[name](outbox_fixture, row))
        await waiting(outbox_fixture)
        before = (await outbox_fixture.snapshot())[1:]
        await taker.commit()
        await statement
    [head, *after] = await outbox_fixture.snapshot()
    assert head[2:] == (writer, str(row.fence + 1))  # no statement wrote the head after the run that acquired it
    assert after == before


async def test_acquire_that_waited_for_a_lock_skips_a_settled_row(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    async with await psycopg.AsyncConnection.connect(outbox_fixture.url) as settler:
        await settler.execute("update dispatcher.delivery set settled_at = now()")
        take = asyncio.create_task(outbox_fixture.acquire(row.id))
        await waiting(outbox_fixture)
        await settler.commit()
        assert await take == []


async def test_statements_on_the_same_rows_never_deadlock(outbox_fixture: OutboxFixture):
    ids = await outbox_fixture.many(40)
    [start] = (await outbox_fixture.claim()).starts
    rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
    luck = random.Random(1)

    def mixed() -> list[Notification]:
        return luck.sample(rows, len(rows))

    async def take() -> None:
        """Raise every fence; later statements of this round are fenced out."""
        for item in await outbox_fixture.outbox.acquire(luck.sample(ids, len(ids)), start.workflow_id, LEASE):
            next(row for row in rows if row.id == item.notification.id).fence = item.notification.fence

    async def renew() -> None:
        chosen = mixed()
        await outbox_fixture.outbox.renew_leases([row.id for row in chosen], [row.fence for row in chosen], LEASE)

    for _ in range(200):
        await asyncio.gather(
            outbox_fixture.outbox.record_calls(calls_of(*mixed())),
            outbox_fixture.outbox.settle(members_of(*mixed()), []),
            renew(),
            renew(),
            take(),
            outbox_fixture.outbox.settle(members_of(*mixed()), []),
            outbox_fixture.outbox.record_calls(calls_of(*mixed())),
        )
    heads = await outbox_fixture.rows("select count(*), min(fence), max(fence) from dispatcher.delivery")
    assert heads == [(40, 202, 202)]


async def test_owners_reset_during_a_settle_never_deadlocks(
    outbox_fixture: OutboxFixture,
):
    """The settle has looked at the row and waits for its head; meanwhile it becomes PENDING and a claim takes it."""
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state = RecipientState.ACCEPTED
    row.final_status = decide_status(row, None)

    async def set_back_and_claim() -> None:
        async with await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as owner:
            await owner.execute("update notify.ent_notification set notification_status = 'PENDING'")
        await outbox_fixture.claim()

    async with await psycopg.AsyncConnection.connect(outbox_fixture.url) as holder:
        await holder.execute("select 1 from dispatcher.delivery for update")
        settle = asyncio.create_task(outbox_fixture.outbox.settle(members_of(row), [row]))
        await waiting(outbox_fixture)
        other = asyncio.create_task(set_back_and_claim())
        await waiting(outbox_fixture, 2)
        await holder.rollback()
        await asyncio.gather(settle, other)


async def test_concurrent_runs_lose_no_row_and_send_each_once(outbox_fixture: OutboxFixture):
    """Four nodes claim, acquire, send and settle or release at random until all rows are final."""
    ids = await outbox_fixture.many(150)
    nodes = [await outbox_fixture.node(f"node-{number}") for number in range(4)]
    permitted: Counter[int] = Counter()

    async def work(node: OutboxStore, luck: random.Random) -> None:
        while await outbox_fixture.value(
            "select count(*) from notify.ent_notification where notification_status <> 'SENT'"
        ):
            for start in (await outbox_fixture.claim(node, limit=30, batch_size=5)).starts:
                if luck.random() < 0.2:
                    await node.release_unstarted(start)
                    continue
                taken = await node.acquire(start.notification_ids, start.workflow_id, LEASE)
                rows = [item.notification for item in taken]
                if luck.random() < 0.2:
                    await node.release(rows)
                    continue
                sent = await node.record_calls(calls_of(*rows))
                for row in rows:
                    permitted[row.id] += (row.id, row.recipients[0].id) in sent
                    row.recipients[0].state = RecipientState.ACCEPTED
                    row.final_status = decide_status(row, None)
                await node.settle(members_of(*rows), rows)

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(node, random.Random(seed)) for seed, node in enumerate(nodes)))
    assert permitted == Counter(dict.fromkeys(ids, 1))
    heads = await outbox_fixture.rows("select distinct generation, attempts, lease_until from dispatcher.delivery")
    assert heads == [(1, 1, None)]  # released rows did not spend an attempt
