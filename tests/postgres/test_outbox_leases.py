"""Releasing, rescuing, renewing and adopting rows."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from dispatcher.claim.foreign_statuses import ForeignStatuses
from dispatcher.models.claims import WorkflowStart
from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, fenced_out, ids_of, late, members_of


class TestRelease:
    async def test_released_row_is_pending_and_its_attempt_does_not_count(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.status(row.id) == "PENDING"
        head = await outbox_fixture.head(row.id)
        assert (head["attempts"], head["fence"], head["lease_owner"], head["lease_until"]) == (
            0,
            row.fence + 1,
            None,
            None,
        )

    async def test_fenced_out_run_releases_nothing(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        before = await outbox_fixture.snapshot()
        await outbox_fixture.outbox.release([fenced_out(row)])
        assert await outbox_fixture.snapshot() == before

    async def test_release_never_makes_attempts_negative(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.rows("update dispatcher.delivery set attempts = 0")
        await outbox_fixture.outbox.release([row])
        assert (await outbox_fixture.head(row.id))["attempts"] == 0

    @pytest.mark.parametrize("status", ["RETRACTED", "SENT", "FAILED", "PENDING"])
    async def test_release_keeps_the_owners_status(self, outbox_fixture: OutboxFixture, status: str):
        row = await outbox_fixture.acquired()
        await outbox_fixture.change(row.id, notification_status=status)
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.status(row.id) == status
        assert (await outbox_fixture.head(row.id))["lease_until"] is None

    async def test_released_row_that_is_not_due_stays_pending_until_it_is(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.change(row.id, scheduled_for="2999-01-01")
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.status(row.id) == "PENDING"
        assert ids_of(await outbox_fixture.claim()) == []
        await outbox_fixture.change(row.id, scheduled_for=None)
        assert ids_of(await outbox_fixture.claim()) == [row.id]

    async def test_release_keeps_earlier_sends(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
        await outbox_fixture.outbox.record_calls(calls_of(row))
        row.recipients[0].state, row.recipients[1].state = RecipientState.ACCEPTED, RecipientState.UNKNOWN
        await outbox_fixture.outbox.settle(members_of(row), [])
        await outbox_fixture.outbox.release([row])
        await outbox_fixture.claim()
        [again] = await outbox_fixture.acquire(row.id)
        assert [recipient.state for recipient in again.recipients] == [RecipientState.ACCEPTED, RecipientState.UNKNOWN]


class TestReleaseUnstarted:
    async def test_rows_of_an_unstarted_workflow_are_pending(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(12)
        [start] = (await outbox_fixture.claim()).starts
        await outbox_fixture.outbox.release_unstarted(start)
        assert {await outbox_fixture.status(row) for row in ids} == {"PENDING"}
        head = await outbox_fixture.head(ids[0])
        assert (head["attempts"], head["lease_until"], head["fence"]) == (0, None, 2)
        assert (await outbox_fixture.claim()).rows == 12
        assert (await outbox_fixture.head(ids[0]))["attempts"] == 1

    async def test_rows_of_another_workflow_are_not_released(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.notify()
        await outbox_fixture.claim()
        before = await outbox_fixture.snapshot()
        await outbox_fixture.outbox.release_unstarted(WorkflowStart("notifications-of-before", [row], first_try=False))
        assert await outbox_fixture.snapshot() == before

    async def test_settled_row_is_not_released(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        workflow_id = (await outbox_fixture.head(row.id))["workflow_id"]
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        before = await outbox_fixture.snapshot()
        await outbox_fixture.outbox.release_unstarted(WorkflowStart(workflow_id, [row.id], first_try=True))
        assert await outbox_fixture.snapshot() == before

    async def test_run_of_a_released_workflow_is_fenced_out(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        workflow_id = (await outbox_fixture.head(row.id))["workflow_id"]
        await outbox_fixture.outbox.release_unstarted(WorkflowStart(workflow_id, [row.id], first_try=True))
        assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        assert await outbox_fixture.status(row.id) == "PENDING"


class TestRescue:
    async def test_lost_run_is_rescued_with_the_same_rows_as_one_more_attempt(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(12)
        [batch] = (await outbox_fixture.claim()).starts
        await outbox_fixture.expire(*ids)
        [found] = await outbox_fixture.outbox.find_expired(100)
        start = await (await outbox_fixture.node("there")).rescue(found, LEASE)
        assert start == WorkflowStart(batch.workflow_id, ids, first_try=False)
        head = await outbox_fixture.head(ids[0])
        assert (head["attempts"], head["generation"], head["fence"], head["lease_owner"]) == (2, 1, 2, "there")
        assert await outbox_fixture.outbox.find_expired(100) == []
        taken = await outbox_fixture.outbox.acquire(ids, batch.workflow_id, LEASE)
        assert [item.notification.id for item in taken] == ids

    async def test_row_acquired_meanwhile_is_not_rescued(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        [again] = await outbox_fixture.acquire(row.id)
        before = await outbox_fixture.snapshot()
        assert await outbox_fixture.outbox.rescue(late(row), LEASE) is None
        assert await outbox_fixture.snapshot() == before
        assert await outbox_fixture.outbox.record_calls(calls_of(again)) != set()

    async def test_two_sweeps_rescue_a_row_once(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        sweeps = (outbox_fixture.outbox.rescue(late(row), LEASE), outbox_fixture.outbox.rescue(late(row), LEASE))
        starts = await asyncio.gather(*sweeps)
        assert [start.notification_ids for start in starts if start] == [[row.id]]
        head = await outbox_fixture.head(row.id)
        assert (head["fence"], head["attempts"]) == (row.fence + 1, 2)

    @pytest.mark.parametrize("status", ["RETRACTED", "SENT", "FAILED", "PENDING"])
    async def test_row_no_longer_processing_is_released_and_not_rescued(
        self, outbox_fixture: OutboxFixture, status: str
    ):
        row = await outbox_fixture.acquired()
        await outbox_fixture.change(row.id, notification_status=status)
        assert await outbox_fixture.outbox.rescue(late(row), LEASE) is None
        assert await outbox_fixture.status(row.id) == status
        head = await outbox_fixture.head(row.id)
        assert (head["lease_until"], head["attempts"], head["fence"]) == (None, 1, row.fence + 1)

    async def test_deleted_row_is_released(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.rows("delete from notify.ent_notification")
        assert await outbox_fixture.outbox.rescue(late(row), LEASE) is None
        assert (await outbox_fixture.head(row.id))["lease_until"] is None

    async def test_rescue_starts_only_the_unsettled_rows_of_a_batch(self, outbox_fixture: OutboxFixture):
        rows = [await outbox_fixture.acquired() for _ in range(3)]
        await outbox_fixture.change(rows[1].id, notification_status="RETRACTED")
        start = await outbox_fixture.outbox.rescue(late(*rows, workflow_id="w", first_try=False), LEASE)
        assert start == WorkflowStart("w", [rows[0].id, rows[2].id], first_try=False)

    async def test_processing_written_over_a_final_status_is_no_new_generation(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="PROCESSING")
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 0
        assert ids_of(await outbox_fixture.claim()) == []
        assert await ForeignStatuses(outbox_fixture.outbox).put_back() == 1
        head = await outbox_fixture.head(row.id)
        assert (await outbox_fixture.status(row.id), head["generation"], head["fence"]) == ("SENT", 1, row.fence)

    async def test_paused_process_changes_nothing_after_its_rescue(self, outbox_fixture: OutboxFixture):
        paused = await outbox_fixture.acquired()
        await outbox_fixture.outbox.record_calls(calls_of(paused))
        await outbox_fixture.outbox.rescue(late(paused), timedelta(0))
        await outbox_fixture.settle(paused, RecipientState.ACCEPTED)
        await outbox_fixture.outbox.release([paused])
        await outbox_fixture.outbox.renew_leases([paused.id], [paused.fence], LEASE)
        assert await outbox_fixture.status(paused.id) == "PROCESSING"
        assert [found.ids for found in await outbox_fixture.outbox.find_expired(100)] == [[paused.id]]
        assert (await outbox_fixture.head(paused.id))["attempts"] == 2
        assert [entry["state"] for entry in await outbox_fixture.entries(paused.id)] == ["sending"]


class TestRenewAndExpire:
    async def test_renewal_extends_the_lease(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.expire(row.id)
        await outbox_fixture.outbox.renew_leases([row.id], [row.fence], LEASE)
        assert await outbox_fixture.outbox.find_expired(100) == []

    async def test_fenced_out_run_renews_nothing(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.expire(row.id)
        await outbox_fixture.outbox.renew_leases([row.id], [row.fence - 1], LEASE)
        assert [found.ids for found in await outbox_fixture.outbox.find_expired(100)] == [[row.id]]

    async def test_released_row_is_not_leased_by_a_renewal(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        fence = (await outbox_fixture.head(row.id))["fence"]
        await outbox_fixture.outbox.renew_leases([row.id], [fence], LEASE)
        assert (await outbox_fixture.head(row.id))["lease_until"] is None

    async def test_renewal_ignores_a_lost_database(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        pids = await outbox_fixture.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database() and backend_type = 'client backend'"
        )
        assert pids
        await outbox_fixture.outbox.renew_leases([row.id], [row.fence], LEASE)

    async def test_expired_rows_come_with_their_workflow_and_fences(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(12)
        [batch] = (await outbox_fixture.claim()).starts
        alone = await outbox_fixture.acquired()
        await outbox_fixture.acquired()  # its lease still runs
        await outbox_fixture.expire(*ids, alone.id)
        found = {item.workflow_id: item for item in await outbox_fixture.outbox.find_expired(100)}
        assert set(found) == {batch.workflow_id, (await outbox_fixture.head(alone.id))["workflow_id"]}
        assert sorted(found[batch.workflow_id].ids) == ids
        assert found[batch.workflow_id].fences == [1] * 12
        assert [item.first_try for item in found.values()] == [
            item.workflow_id != batch.workflow_id for item in found.values()
        ]

    async def test_expired_batch_is_found_completely(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(4)
        await outbox_fixture.claim()
        await outbox_fixture.expire(*ids)
        [found] = await outbox_fixture.outbox.find_expired(3)
        assert sorted(found.ids) == ids

    async def test_batch_with_one_valid_lease_is_not_expired(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(4)
        await outbox_fixture.claim()
        await outbox_fixture.expire(*ids[:-1])
        assert await outbox_fixture.outbox.find_expired(100) == []

    async def test_oldest_expired_leases_come_first(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(6)
        await outbox_fixture.claim(batch_size=1)
        for age, row in enumerate(ids):
            await outbox_fixture.rows(
                "update dispatcher.delivery set lease_until = now() - %s * interval '1 s' where notification_id = %s",
                age + 1,
                row,
            )
        assert sorted(row for item in await outbox_fixture.outbox.find_expired(2) for row in item.ids) == ids[-2:]


class TestAdoptOrphans:
    async def test_processing_row_without_a_lease_is_rescued_after_one(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.notify(notification_status="PROCESSING")
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 1
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 0
        assert await outbox_fixture.outbox.find_expired(100) == []
        await outbox_fixture.expire(row)
        [found] = await outbox_fixture.outbox.find_expired(100)
        head = await outbox_fixture.head(row)
        assert found.workflow_id == f"notification-{row}-{head['birth']}-1"
        assert await outbox_fixture.outbox.rescue(found, LEASE) == WorkflowStart(
            found.workflow_id, [row], first_try=True
        )
        [taken] = await outbox_fixture.acquire(row)
        assert (taken.generation, taken.attempts, taken.validation_error) == (1, 1, None)

    async def test_row_set_to_processing_after_its_outcome_is_not_adopted(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.REFUSED)
        await outbox_fixture.change(row.id, notification_status="PROCESSING")
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 0
        assert (await outbox_fixture.head(row.id))["lease_owner"] is None

    async def test_leased_row_is_not_adopted(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.expire(row.id)
        before = await outbox_fixture.snapshot()
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 0
        assert await outbox_fixture.snapshot() == before

    @pytest.mark.parametrize("status", ["PENDING", "SENT", "FAILED", "RETRACTED"])
    async def test_only_processing_rows_are_adopted(self, outbox_fixture: OutboxFixture, status: str):
        await outbox_fixture.notify(notification_status=status)
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 0

    async def test_adoption_respects_its_limit_and_the_enterprises(self, outbox_fixture: OutboxFixture):
        ours = uuid4()
        for enterprise in (ours, ours, ours, uuid4(), None):
            await outbox_fixture.notify(notification_status="PROCESSING", enterprise_id=enterprise)
        picky = await outbox_fixture.node("picky", ours)
        assert [
            await picky.adopt_orphans(LEASE, 2),
            await picky.adopt_orphans(LEASE, 2),
            await picky.adopt_orphans(LEASE, 2),
        ] == [2, 1, 0]
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 100) == 2
