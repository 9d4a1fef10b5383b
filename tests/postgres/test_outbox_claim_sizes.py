"""How many rows a claim takes and which workflows it starts; unreadable rows do not affect other rows."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, ids_of

POISON: dict[str, dict[str, Any]] = {
    "before Christ": {"created_at": "4713-01-02 00:00+00 BC"},
    "at the end of time": {"created_at": "infinity"},
    "at its beginning": {"created_at": "-infinity"},
    "600 KiB": {"payload": '{"x": "' + "x" * 600 * 1024 + '"}'},
    "6,000 levels": {"payload": '{"a":' * 6000 + "1" + "}" * 6000},
    "5,000 digits": {"payload": '{"n": ' + "7" * 5000 + "}"},
    "no recipients": {"recipients": []},
    "a NULL recipient": {"recipients": [None]},
    "no workflow": {"notification_workflow_id": None},
}


class TestCapacity:
    async def test_claim_stays_within_its_limit_and_reports_it(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(5)
        first = await outbox_fixture.claim(limit=3)
        assert (first.free_capacity, first.rows, ids_of(first)) == (3, 3, ids[:3])
        second = await outbox_fixture.claim(limit=3)
        assert (second.free_capacity, ids_of(second)) == (3, ids[3:])
        assert (await outbox_fixture.claim(limit=3)).rows == 0

    async def test_node_leases_at_most_its_capacity(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(7)
        first = await outbox_fixture.claim(capacity=5, batch_size=1)
        assert (first.free_capacity, first.rows) == (5, 5)
        full = await outbox_fixture.claim(capacity=5, batch_size=1)
        assert (full.free_capacity, full.rows, full.starts) == (0, 0, [])
        [row] = await outbox_fixture.acquire(ids[0])
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        assert (await outbox_fixture.claim(capacity=5, batch_size=1)).free_capacity == 1

    async def test_free_capacity_below_a_batch_counts_as_none(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.many(10)
        assert (await outbox_fixture.claim(capacity=6, batch_size=4)).rows == 6
        assert (await outbox_fixture.claim(capacity=9, batch_size=4)).free_capacity == 0
        assert (await outbox_fixture.claim(capacity=10, batch_size=4)).free_capacity == 4

    async def test_leases_of_another_node_use_no_capacity_here(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.many(6)
        assert (await outbox_fixture.claim(capacity=4, batch_size=1)).rows == 4
        assert (await outbox_fixture.claim(await outbox_fixture.node("there"), capacity=4, batch_size=1)).rows == 2

    async def test_rows_from_every_source_share_the_limit_oldest_first(self, outbox_fixture: OutboxFixture):
        new = await outbox_fixture.notify(created_at="2020-01-03")
        scheduled = await outbox_fixture.notify(scheduled_for="2020-01-02")
        failed = await outbox_fixture.acquired()
        await outbox_fixture.rows(
            "update notify.ent_notification set notification_status = 'PENDING' where id <> %s", failed.id
        )
        await outbox_fixture.settle(failed, RecipientState.UNKNOWN, timedelta(0))
        await outbox_fixture.rows(
            "update dispatcher.delivery set next_attempt_at = '2020-01-01' where settled_at is not null"
        )
        assert ids_of(await outbox_fixture.claim(limit=2)) == [failed.id, scheduled]
        assert ids_of(await outbox_fixture.claim(limit=2)) == [new]


class TestWorkflows:
    async def test_claim_of_one_row_starts_its_own_workflow(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.notify()
        [start] = (await outbox_fixture.claim()).starts
        assert start.workflow_id == f"notification-{row}-{(await outbox_fixture.head(row))['birth']}-1"
        assert (start.notification_ids, start.first_try) == ([row], True)

    async def test_batch_size_one_starts_a_workflow_for_each_row(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(10)
        claim = await outbox_fixture.claim(batch_size=1)
        assert [start.notification_ids for start in claim.starts] == [[row] for row in ids]
        assert all(start.first_try for start in claim.starts)
        assert len({start.workflow_id for start in claim.starts}) == 10

    @pytest.mark.parametrize(("rows", "first_try"), [(2, True), (50, True), (51, False), (100, False)])
    async def test_small_batch_starts_on_the_first_try_queue(
        self, outbox_fixture: OutboxFixture, rows: int, *, first_try: bool
    ):
        await outbox_fixture.many(rows)
        [start] = (await outbox_fixture.claim()).starts
        assert (len(start.notification_ids), start.first_try) == (rows, first_try)
        assert start.workflow_id.startswith("notifications-c1-")

    @pytest.mark.parametrize(("recipients", "first_try"), [(200, True), (300, False), (100_000, False)])
    @pytest.mark.parametrize("beside", [0, 1])
    async def test_row_of_many_recipients_starts_on_the_batch_queue(
        self, outbox_fixture: OutboxFixture, recipients: int, beside: int, *, first_try: bool
    ):
        await outbox_fixture.notify(recipients=[uuid4() for _ in range(recipients)])
        await outbox_fixture.many(beside)
        [start] = (await outbox_fixture.claim()).starts
        assert (len(start.notification_ids), start.first_try) == (1 + beside, first_try)

    async def test_enterprise_that_fills_batches_has_its_own_and_the_rest_shares(self, outbox_fixture: OutboxFixture):
        owners = {UUID(int=number): set[int]() for number in range(3)}
        for _ in range(5):
            for owner, rows in owners.items():
                rows.update(await outbox_fixture.many(5, enterprise=owner))
        claim = await outbox_fixture.claim(batch_size=10)
        assert all(start.first_try for start in claim.starts)
        assert all(start.workflow_id.startswith("notifications-c1-") for start in claim.starts)
        carried = await outbox_fixture.rows("select distinct workflow_id from dispatcher.delivery")
        assert {workflow_id for (workflow_id,) in carried} == {start.workflow_id for start in claim.starts}
        found = sorted(
            tuple(len(rows & {*start.notification_ids}) for rows in owners.values()) for start in claim.starts
        )
        assert found == [(0, 0, 5), (0, 0, 10), (0, 0, 10), (0, 10, 0), (0, 10, 0), (5, 5, 0), *[(10, 0, 0)] * 2]
        for start in claim.starts:
            its_own = [str(owner) for owner, rows in owners.items() if {*start.notification_ids} <= rows]
            assert [start.enterprise] == (its_own or [""]), "the fairness key of a mixed workflow is empty"

    async def test_rows_of_many_enterprises_share_one_batch(self, outbox_fixture: OutboxFixture):
        for owner in (None, *(uuid4() for _ in range(10))):
            await outbox_fixture.notify(enterprise_id=owner)
        [start] = (await outbox_fixture.claim()).starts
        assert (len(start.notification_ids), start.enterprise) == (11, "")

    async def test_claims_never_share_a_batch_name(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.many(40)
        names = [
            start.workflow_id for _ in range(2) for start in (await outbox_fixture.claim(limit=20, batch_size=5)).starts
        ]
        assert len(set(names)) == len(names) == 8

    async def test_failed_batch_stays_together(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(3)
        [start] = (await outbox_fixture.claim()).starts
        rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
        for row in rows:
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        await outbox_fixture.notify()
        again = await outbox_fixture.claim()
        assert again.starts[0] == start
        assert [len(other.notification_ids) for other in again.starts] == [3, 1]

    async def test_failed_batch_is_claimed_completely_or_not_at_all(self, outbox_fixture: OutboxFixture):
        """Its members may share a call with an unknown outcome, which can only be repeated as it was."""
        ids = await outbox_fixture.many(4)
        [start] = (await outbox_fixture.claim()).starts
        rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
        for row in rows:
            await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        starts = (await outbox_fixture.claim(limit=3)).starts
        assert [again.notification_ids for again in starts] in ([], [ids])

    async def test_failed_batch_whose_calls_are_all_known_joins_other_rows(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(4)
        [start] = (await outbox_fixture.claim()).starts
        rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
        for row in rows:
            await outbox_fixture.settle(row, RecipientState.PLANNED, timedelta(0))
        await outbox_fixture.rows(
            "update dispatcher.delivery set next_attempt_at = '2999-01-01' where notification_id = %s", ids[0]
        )
        other = await outbox_fixture.notify(enterprise_id=uuid4())
        [again] = (await outbox_fixture.claim()).starts
        assert sorted(again.notification_ids) == [*ids[1:], other], "its members need not wait for the first one"
        assert again.workflow_id != start.workflow_id

    async def test_only_rows_with_an_unknown_call_keep_their_batch(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(4)
        [start] = (await outbox_fixture.claim()).starts
        rows = [item.notification for item in await outbox_fixture.outbox.acquire(ids, start.workflow_id, LEASE)]
        for row, state in zip(rows, [RecipientState.PLANNED, RecipientState.UNKNOWN] * 2, strict=True):
            await outbox_fixture.settle(row, state, timedelta(0))
        starts = {each.workflow_id: each for each in (await outbox_fixture.claim()).starts}
        assert starts.pop(start.workflow_id).notification_ids == [ids[1], ids[3]]
        [other] = starts.values()
        assert other.notification_ids == [ids[0], ids[2]]

    async def test_row_claimed_alone_after_a_batch_has_its_own_workflow(self, outbox_fixture: OutboxFixture):
        [row, *_] = await outbox_fixture.many(12)
        [start] = (await outbox_fixture.claim()).starts
        await outbox_fixture.outbox.release_unstarted(start)
        claim = await outbox_fixture.claim(limit=1)
        assert claim.starts[0].workflow_id == f"notification-{row}-{(await outbox_fixture.head(row))['birth']}-1"


class TestClaimSize:
    async def test_claim_takes_a_thousand_rows(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.many(1200)
        started = time.monotonic()
        claim = await outbox_fixture.claim()
        assert time.monotonic() - started < 5
        assert (claim.free_capacity, claim.rows, len(claim.starts)) == (1000, 1000, 10)
        assert {len(start.notification_ids) for start in claim.starts} == {100}
        assert (await outbox_fixture.claim()).rows == 200

    async def test_poison_rows_do_not_affect_other_rows(self, outbox_fixture: OutboxFixture):
        good = await outbox_fixture.notify()
        bad = [await outbox_fixture.notify(**columns) for columns in POISON.values()]
        assert sorted(ids_of(await outbox_fixture.claim())) == sorted([good, *bad])
        rows = await outbox_fixture.acquire(good, *bad)
        assert [row.id for row in rows] == [good, *bad]
        refused = {name for name, row in zip(POISON, rows[1:], strict=True) if row.validation_error is not None}
        assert refused == set(POISON) - {"before Christ", "at the end of time", "at its beginning"}
        assert rows[0].validation_error is None
        assert all(row.since_first_claim < timedelta(minutes=1) for row in rows)
