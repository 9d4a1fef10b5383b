"""While a backlog lasts, enterprises have their turn one after the other, and none fills a node for the others."""

import time
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.models.claims import Claim
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import OutboxFixture, ids_of

OWNERS = [None, *(UUID(int=number) for number in range(5))]
"""Nobody, and five enterprises; one of them has the lowest id there is."""


async def crowd(outbox_fixture: OutboxFixture, outbox: OutboxStore | None = None) -> None:
    """Let the outbox know of a backlog, as after a claim that had no room for all."""
    assert (await outbox_fixture.claim(outbox, limit=0)).rows == 0


async def owners(outbox_fixture: OutboxFixture, claim: Claim) -> Counter[UUID | None]:
    """Return how many rows of each enterprise a claim took."""
    rows = await outbox_fixture.rows(
        "select enterprise_id from notify.ent_notification where id = any(%s)", ids_of(claim)
    )
    return Counter(owner for (owner,) in rows)


async def claim_all(outbox_fixture: OutboxFixture, *, limit: int, batch_size: int = 100) -> list[Counter[UUID | None]]:
    """Claim like the claimer until a claim has free capacity; return the rows of each claim. They are released."""
    taken: list[Counter[UUID | None]] = []
    while True:
        claim = await outbox_fixture.claim(limit=limit, batch_size=batch_size)
        taken.append(await owners(outbox_fixture, claim))
        await forget(outbox_fixture)
        if claim.rows < claim.free_capacity:
            return taken


async def forget(outbox_fixture: OutboxFixture) -> None:
    """Let what is held be done."""
    await outbox_fixture.rows(
        "update notify.ent_notification set notification_status = 'SENT' where notification_status = 'PROCESSING'"
    )
    await outbox_fixture.rows(
        "update dispatcher.delivery set lease_until = null, settled_at = now() where lease_until is not null"
    )


class TestShares:
    @given(backlog=st.dictionaries(st.sampled_from(OWNERS), st.integers(1, 40), min_size=1), limit=st.integers(6, 60))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_each_enterprise_gets_its_share_or_all_its_rows(
        self, outbox_fixture: OutboxFixture, backlog: dict[UUID | None, int], limit: int
    ):
        await outbox_fixture.rows("truncate notify.ent_notification, dispatcher.delivery")
        for owner, rows in backlog.items():
            await outbox_fixture.many(rows, enterprise=owner)
        await crowd(outbox_fixture)
        [first, *others] = await claim_all(outbox_fixture, limit=limit, batch_size=5)
        share = limit // len(backlog)
        assert first == {owner: min(share, rows) for owner, rows in backlog.items()}
        assert sum(others, first) == backlog  # repeated claims reach all of them

    async def test_f152_ten_rows_behind_fifty_thousand_are_in_the_next_claim(self, outbox_fixture: OutboxFixture):
        crowding, small = uuid4(), uuid4()
        await outbox_fixture.many(50_000, enterprise=crowding)
        assert (await outbox_fixture.claim()).rows == 1000
        await outbox_fixture.many(10, enterprise=small)
        assert (await owners(outbox_fixture, await outbox_fixture.claim())) == {crowding: 500, small: 10}
        await forget(outbox_fixture)
        assert (await owners(outbox_fixture, await outbox_fixture.claim())) == {crowding: 1000}

    async def test_claim_reports_a_backlog_until_none_is_left(self, outbox_fixture: OutboxFixture):
        for owner, rows in (("a", 30), ("b", 3)):
            await outbox_fixture.many(rows, enterprise=UUID(int=ord(owner)))
        await crowd(outbox_fixture)
        claims = [await outbox_fixture.claim(limit=20, batch_size=5) for _ in range(3)]
        assert [(claim.free_capacity, claim.rows) for claim in claims] == [(13, 13), (20, 20), (20, 0)]

    async def test_more_enterprises_than_rows_of_a_claim_have_their_turns(self, outbox_fixture: OutboxFixture):
        everybody = [UUID(int=number) for number in range(45)]
        for owner in everybody:
            await outbox_fixture.many(3, enterprise=owner)
        await crowd(outbox_fixture)
        rounds = [await owners(outbox_fixture, await outbox_fixture.claim(limit=20, batch_size=10)) for _ in range(3)]
        assert [list(taken.values()) for taken in rounds] == [[1] * 20, [1] * 20, [3] * 5]
        assert set().union(*rounds) == set(everybody)
        await forget(outbox_fixture)
        assert sum((await claim_all(outbox_fixture, limit=20)), Counter[UUID | None]()).total() == 80

    async def test_f152_row_of_each_of_600_enterprises_is_in_the_next_claim(self, outbox_fixture: OutboxFixture):
        """The mixed twin: their rows share batches, and the crowding enterprise gets what they leave."""
        crowding = uuid4()
        await outbox_fixture.many(5_000, enterprise=crowding)
        assert (await outbox_fixture.claim()).rows == 1000
        await outbox_fixture.rows(
            "insert into notify.ent_notification (name, publish_status, payload, recipients, enterprise_id)"
            " select 'n ' || n, 'PUBLISH', '{}', array[gen_random_uuid()], gen_random_uuid()"
            " from generate_series(1, 600) n"
        )
        claim = await outbox_fixture.claim()
        taken = await owners(outbox_fixture, claim)
        assert (taken.pop(crowding, 0) >= 1, set(taken.values()), len(taken)) == (True, {1}, 600)
        assert len(claim.starts) == -(-claim.rows // 100), "no workflow has room for others"

    async def test_failed_batch_of_two_enterprises_has_its_turn_as_a_whole(self, outbox_fixture: OutboxFixture):
        small, crowding = UUID(int=1), UUID(int=2)
        ids = [*await outbox_fixture.many(2, enterprise=crowding), *await outbox_fixture.many(2, enterprise=small)]
        [start] = (await outbox_fixture.claim()).starts
        for row in await outbox_fixture.acquire(*ids):
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        await outbox_fixture.many(200, enterprise=crowding)
        await crowd(outbox_fixture)
        claim = await outbox_fixture.claim(limit=20, batch_size=5)
        assert [sorted(each.notification_ids) for each in claim.starts if each.workflow_id == start.workflow_id] == [
            ids
        ]

    async def test_failed_batch_waits_for_the_capacity_of_each_of_its_enterprises(self, outbox_fixture: OutboxFixture):
        small, crowding = UUID(int=1), UUID(int=2)
        ids = [*await outbox_fixture.many(2, enterprise=crowding), *await outbox_fixture.many(2, enterprise=small)]
        await outbox_fixture.claim()
        for row in await outbox_fixture.acquire(*ids):
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(hours=1))
        await outbox_fixture.many(40, enterprise=crowding)
        await crowd(outbox_fixture)
        assert (await outbox_fixture.claim(capacity=40, batch_size=5)).rows == 40
        await outbox_fixture.rows(
            "update dispatcher.delivery set next_attempt_at = now() where next_attempt_at is not null"
        )
        assert ids_of(await outbox_fixture.claim(capacity=40, batch_size=5)) == []
        await outbox_fixture.rows(
            "update dispatcher.delivery set lease_until = null, settled_at = now() where lease_until is not null"
        )
        assert sorted(ids_of(await outbox_fixture.claim(capacity=40, batch_size=5))) == ids

    async def test_many_retries_do_not_delay_new_rows(self, outbox_fixture: OutboxFixture):
        failing, other = uuid4(), uuid4()
        ids = await outbox_fixture.many(60, enterprise=failing)
        await outbox_fixture.claim(batch_size=1)
        for row in await outbox_fixture.acquire(*ids):
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        await outbox_fixture.many(5, enterprise=other)
        await crowd(outbox_fixture)
        assert (await owners(outbox_fixture, await outbox_fixture.claim(limit=20, batch_size=5)))[other] == 5

    async def test_many_scheduled_rows_do_not_delay_new_rows(self, outbox_fixture: OutboxFixture):
        planned, other = uuid4(), uuid4()
        await outbox_fixture.many(60, enterprise=planned)
        await outbox_fixture.rows("update notify.ent_notification set scheduled_for = '2020-01-01'")
        await outbox_fixture.many(5, enterprise=other)
        await crowd(outbox_fixture)
        assert (await owners(outbox_fixture, await outbox_fixture.claim(limit=20, batch_size=5)))[other] == 5


class TestCapacity:
    async def test_full_node_claims_for_tenant_without_rows(self, outbox_fixture: OutboxFixture):
        slow, other, third = uuid4(), uuid4(), uuid4()
        await outbox_fixture.many(100, enterprise=slow)
        assert (await outbox_fixture.claim(capacity=40, batch_size=5)).rows == 40
        assert (await outbox_fixture.claim(capacity=40, batch_size=5)).free_capacity == 0
        await outbox_fixture.many(50, enterprise=other)
        assert (await owners(outbox_fixture, await outbox_fixture.claim(capacity=40, batch_size=5))) == {other: 20}
        await outbox_fixture.many(50, enterprise=third)
        assert (await owners(outbox_fixture, await outbox_fixture.claim(capacity=40, batch_size=5))) == {third: 10}

    async def test_node_never_leases_more_than_twice_its_capacity(self, outbox_fixture: OutboxFixture):
        for _ in range(12):
            await outbox_fixture.many(40, enterprise=uuid4())
            await outbox_fixture.claim(capacity=40, batch_size=1)
        held = await outbox_fixture.value("select count(*) from dispatcher.delivery where lease_until is not null")
        assert 60 < held <= 80

    async def test_capacity_counts_scheduled_rows_and_retries(self, outbox_fixture: OutboxFixture):
        owner = uuid4()
        await outbox_fixture.many(30, enterprise=owner)
        await outbox_fixture.rows("update notify.ent_notification set scheduled_for = '2020-01-01'")
        await outbox_fixture.many(30, enterprise=owner)
        await crowd(outbox_fixture)
        assert (await outbox_fixture.claim(capacity=25, batch_size=5)).rows == 25
        assert (await outbox_fixture.claim(capacity=25, batch_size=5)).free_capacity == 0


class TestAllowList:
    async def test_only_listed_enterprises_are_claimed(self, outbox_fixture: OutboxFixture):
        one, two, foreign = uuid4(), uuid4(), uuid4()
        await outbox_fixture.many(50, enterprise=foreign)
        await outbox_fixture.many(50, enterprise=one)
        await outbox_fixture.many(5, enterprise=two)
        await outbox_fixture.many(5)
        listed = await outbox_fixture.node("listed", one, two)
        assert await owners(outbox_fixture, await outbox_fixture.claim(listed, limit=20)) == {one: 10, two: 5}
        assert await owners(outbox_fixture, await outbox_fixture.claim(listed, limit=20)) == {one: 20}

    async def test_scheduled_rows_and_retries_of_others_are_not_claimed(self, outbox_fixture: OutboxFixture):
        ours, foreign = uuid4(), uuid4()
        mine = await outbox_fixture.notify(enterprise_id=ours, scheduled_for="2020-01-02")
        await outbox_fixture.notify(enterprise_id=foreign, scheduled_for="2020-01-01")
        failed = await outbox_fixture.acquired(enterprise_id=foreign)
        await outbox_fixture.settle(failed, RecipientState.UNKNOWN, timedelta(0))
        await outbox_fixture.rows(
            "update notify.ent_notification set notification_status = 'PENDING' where id <> %s", failed.id
        )
        assert ids_of(await outbox_fixture.claim(await outbox_fixture.node("listed", ours))) == [mine]

    async def test_failed_batch_of_two_lists_is_claimed_by_both_nodes(self, outbox_fixture: OutboxFixture):
        """Neither can repeat its unknown call, so Novu is asked. Two workflows never have the same name."""
        one, two = uuid4(), uuid4()
        ids = [*await outbox_fixture.many(2, enterprise=one), *await outbox_fixture.many(2, enterprise=two)]
        await outbox_fixture.claim()
        for row in await outbox_fixture.acquire(*ids):
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        claims = [await outbox_fixture.claim(await outbox_fixture.node(f"for {owner}", owner)) for owner in (one, two)]
        assert [sorted(ids_of(claim)) for claim in claims] == [ids[:2], ids[2:]]
        assert len({start.workflow_id for claim in claims for start in claim.starts}) == 2

    async def test_failed_batch_within_the_list_stays_together(self, outbox_fixture: OutboxFixture):
        one, two, foreign = uuid4(), uuid4(), uuid4()
        ids = [*await outbox_fixture.many(2, enterprise=one), *await outbox_fixture.many(2, enterprise=two)]
        await outbox_fixture.many(3, enterprise=foreign)
        listed = await outbox_fixture.node("listed", one, two)
        [start] = (await outbox_fixture.claim(listed)).starts
        for row in await outbox_fixture.acquire(*ids):
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        assert (await outbox_fixture.claim(listed)).starts == [start]


async def quickest(outbox_fixture: OutboxFixture, claims: int = 8) -> float:
    """Return the seconds of the quickest of several claims of a hundred rows."""
    seconds: list[float] = []
    for _ in range(claims):
        started = time.perf_counter()
        assert (await outbox_fixture.claim(limit=100)).rows == 100
        seconds.append(time.perf_counter() - started)
        await forget(outbox_fixture)
    return min(seconds)


async def test_f150_large_backlog_does_not_slow_a_claim(outbox_fixture: OutboxFixture):
    """The first claim of all, made for an empty table, and those that follow."""
    for statement in ("constraint uq_ent_notification_name_enterprise", "column repr"):
        await outbox_fixture.rows(f"alter table notify.ent_notification drop {statement}")  # only to load faster
    await outbox_fixture.many(1000, enterprise=uuid4())
    small = await quickest(outbox_fixture)
    await outbox_fixture.many(120_000, enterprise=uuid4())
    large = await quickest(outbox_fixture)
    assert large < 3 * small, (small, large)


async def test_fair_share_works_without_the_indexes(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows(
        "drop index notify.ent_notification_dispatcher_new_rows, notify.ent_notification_dispatcher_scheduled"
    )
    one, two = uuid4(), uuid4()
    await outbox_fixture.many(50, enterprise=one)
    await outbox_fixture.many(5, enterprise=two)
    await crowd(outbox_fixture)
    assert await owners(outbox_fixture, await outbox_fixture.claim(limit=20)) == {one: 10, two: 5}


async def test_row_due_after_the_claim_is_reported_as_due(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.notify(
        scheduled_for=await outbox_fixture.value("select clock_timestamp() + interval '100 ms'")
    )
    assert ids_of(await outbox_fixture.claim()) == []
    await outbox_fixture.rows("select pg_sleep_until(scheduled_for) from notify.ent_notification")
    due = await outbox_fixture.outbox.seconds_until_due()
    assert due is not None
    assert due <= 0
    assert ids_of(await outbox_fixture.claim()) == [row]
    assert await outbox_fixture.outbox.seconds_until_due() is None
