"""Which rows a claim takes; when a row continues its generation, and when it gets a new one."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, ids_of, late

DUE: dict[str, dict[str, Any]] = {
    "new": {},
    "scheduled for the past": {"scheduled_for": "2020-01-01"},
    "scheduled for long ago": {"scheduled_for": "-infinity"},
    "of another time zone": {"created_at": "2020-01-01 00:00+14"},
}
NOT_DUE: dict[str, dict[str, Any]] = {
    "a draft": {"publish_status": "DRAFT"},
    "deleted": {"publish_status": "DELETED"},
    "deactivated": {"deactivated": True},
    "scheduled for the future": {"scheduled_for": "2999-01-01"},
    "never due": {"scheduled_for": "infinity"},
    "retracted": {"notification_status": "RETRACTED"},
    "in work": {"notification_status": "PROCESSING"},
    "sent": {"notification_status": "SENT"},
    "failed without a ledger": {"notification_status": "FAILED"},
}


class TestDueRows:
    @pytest.mark.parametrize("kind", DUE)
    async def test_due_row_is_claimed_and_leased(self, outbox_fixture: OutboxFixture, kind: str):
        row = await outbox_fixture.notify(**DUE[kind])
        claim = await outbox_fixture.claim()
        assert ids_of(claim) == [row]
        assert await outbox_fixture.status(row) == "PROCESSING"
        head = await outbox_fixture.head(row)
        assert (head["generation"], head["fence"], head["attempts"], head["lease_owner"]) == (1, 1, 1, "here")
        assert head["workflow_id"] == claim.starts[0].workflow_id == f"notification-{row}-{head['birth']}-1"
        left = await outbox_fixture.value("select lease_until - clock_timestamp() from dispatcher.delivery")
        assert timedelta(seconds=50) < left <= timedelta(seconds=60)
        assert ids_of(await outbox_fixture.claim()) == []

    @pytest.mark.parametrize("kind", NOT_DUE)
    async def test_row_that_is_not_due_is_not_claimed(self, outbox_fixture: OutboxFixture, kind: str):
        await outbox_fixture.notify(**NOT_DUE[kind])
        before = await outbox_fixture.snapshot()
        claim = await outbox_fixture.claim()
        assert (claim.rows, claim.starts) == (0, [])
        assert await outbox_fixture.snapshot() == before

    async def test_claim_uses_the_databases_clock(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.notify(
            scheduled_for=await outbox_fixture.value("select clock_timestamp() + interval '300 ms'")
        )
        assert ids_of(await outbox_fixture.claim()) == []
        await outbox_fixture.rows("select pg_sleep_until(scheduled_for) from notify.ent_notification")
        assert len(ids_of(await outbox_fixture.claim())) == 1

    async def test_only_rows_of_allowed_enterprises_are_claimed(self, outbox_fixture: OutboxFixture):
        ours, theirs = uuid4(), uuid4()
        mine = await outbox_fixture.notify(enterprise_id=ours)
        await outbox_fixture.notify(enterprise_id=theirs)
        await outbox_fixture.notify()
        assert ids_of(await outbox_fixture.claim(await outbox_fixture.node("picky", ours))) == [mine]
        assert len(ids_of(await outbox_fixture.claim())) == 2


class TestClaimedAgain:
    async def failed(self, outbox_fixture: OutboxFixture, wait: timedelta | None = timedelta(minutes=1)) -> int:
        """Return a row whose first run failed."""
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.UNKNOWN, wait)
        return row.id

    async def test_scheduled_and_failed_rows_of_other_enterprises_are_not_claimed(self, outbox_fixture: OutboxFixture):
        await self.failed(outbox_fixture)
        await self.come_due(outbox_fixture)
        await outbox_fixture.notify(
            enterprise_id=uuid4(), scheduled_for=await outbox_fixture.value("select now() - interval '1 s'")
        )
        assert ids_of(await outbox_fixture.claim(await outbox_fixture.node("picky", uuid4()))) == []
        assert len(ids_of(await outbox_fixture.claim())) == 2

    async def come_due(self, outbox_fixture: OutboxFixture) -> None:
        """Let every automatic retry be due now."""
        await outbox_fixture.rows(
            "update dispatcher.delivery set next_attempt_at = now() where next_attempt_at is not null"
        )

    async def test_failed_row_is_claimed_again_when_due_in_the_same_generation(self, outbox_fixture: OutboxFixture):
        row = await self.failed(outbox_fixture)
        assert ids_of(await outbox_fixture.claim()) == []
        before = await outbox_fixture.head(row)
        await self.come_due(outbox_fixture)
        claim = await outbox_fixture.claim()
        assert ids_of(claim) == [row]
        head = await outbox_fixture.head(row)
        assert (head["generation"], head["attempts"], head["fence"]) == (1, 2, before["fence"] + 1)
        assert head["first_claimed_at"] == before["first_claimed_at"] < head["claimed_at"]
        assert head["last_error"] == before["last_error"]
        assert (head["next_attempt_at"], head["settled_at"], head["dead_lettered_at"]) == (None, None, None)
        [notification] = await outbox_fixture.acquire(row)
        assert [recipient.state for recipient in notification.recipients] == [RecipientState.UNKNOWN]

    async def test_dead_letter_is_not_claimed(self, outbox_fixture: OutboxFixture):
        await self.failed(outbox_fixture, None)
        assert ids_of(await outbox_fixture.claim()) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"publish_status": "DRAFT"},
            {"deactivated": True},
            {"scheduled_for": "2999-01-01"},
            {"notification_status": "RETRACTED"},
            {"notification_status": "SENT"},
        ],
        ids=str,
    )
    async def test_failed_row_that_is_no_longer_eligible_is_not_claimed(
        self, outbox_fixture: OutboxFixture, change: dict[str, Any]
    ):
        row = await self.failed(outbox_fixture)
        await self.come_due(outbox_fixture)
        await outbox_fixture.change(row, **change)
        assert ids_of(await outbox_fixture.claim()) == []

    @pytest.mark.parametrize("state", [RecipientState.ACCEPTED, RecipientState.UNKNOWN])
    async def test_pending_after_an_outcome_is_a_new_generation(
        self, outbox_fixture: OutboxFixture, state: RecipientState
    ):
        first = await outbox_fixture.acquired()
        await outbox_fixture.settle(first, state)
        before = await outbox_fixture.head(first.id)
        await outbox_fixture.change(first.id, notification_status="PENDING")
        claim = await outbox_fixture.claim()
        head = await outbox_fixture.head(first.id)
        assert (head["generation"], head["attempts"], head["fence"]) == (2, 1, before["fence"] + 1)
        assert head["first_claimed_at"] > before["first_claimed_at"]
        assert (head["last_error"], head["settled_at"], head["dead_lettered_at"]) == (None, None, None)
        assert claim.starts[0].workflow_id.endswith("-2")
        [second] = await outbox_fixture.acquire(first.id)
        assert second.recipients[0].state is RecipientState.PLANNED
        assert second.recipients[0].transaction_id != first.recipients[0].transaction_id

    async def test_released_row_continues_its_generation(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.outbox.release([row])
        assert ids_of(await outbox_fixture.claim()) == [row.id]
        head = await outbox_fixture.head(row.id)
        assert (head["generation"], head["attempts"]) == (1, 1)

    async def test_released_row_has_its_full_retry_horizon(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.outbox.release([row])
        await outbox_fixture.rows("update dispatcher.delivery set first_claimed_at = now() - interval '3 days'")
        await outbox_fixture.claim()
        [again] = await outbox_fixture.acquire(row.id)
        assert again.since_first_claim < timedelta(minutes=1)

    async def test_fence_grows_with_every_claim(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        fences = [row.fence]
        for _ in range(3):
            await outbox_fixture.outbox.release([row])
            await outbox_fixture.claim()
            [row] = await outbox_fixture.acquire(row.id)
            fences.append(row.fence)
        assert fences == sorted(set(fences))

    @pytest.mark.parametrize("settled", [True, False])
    async def test_reused_id_is_another_notification(self, outbox_fixture: OutboxFixture, *, settled: bool):
        first = await outbox_fixture.acquired(created_at="2020-01-01")
        if settled:
            await outbox_fixture.settle(first, RecipientState.ACCEPTED)
        before = await outbox_fixture.head(first.id)
        await outbox_fixture.rows("delete from notify.ent_notification")
        if not settled:  # a sweep ends the generation of a row that was deleted in work
            await outbox_fixture.expire(first.id)
            assert await outbox_fixture.outbox.rescue(late(first), LEASE) is None
        await outbox_fixture.notify(id=first.id, created_at="2020-01-02", recipients=[first.recipients[0].id])
        claim = await outbox_fixture.claim()
        head = await outbox_fixture.head(first.id)
        assert head["birth"] != before["birth"]
        assert (head["generation"], head["attempts"], head["fence"]) == (2, 1, before["fence"] + (1 if settled else 2))
        assert claim.starts[0].workflow_id != before["workflow_id"]
        [second] = await outbox_fixture.acquire(first.id)
        assert second.recipients[0].state is RecipientState.PLANNED
        assert second.recipients[0].transaction_id != first.recipients[0].transaction_id
        assert await outbox_fixture.outbox.record_calls([]) == set()

    async def test_births_differ_between_installations(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        before = (await outbox_fixture.head(row.id))["birth"]
        await outbox_fixture.rows("update dispatcher.installation set id = gen_random_uuid()")
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="PENDING")
        await outbox_fixture.claim()
        assert (await outbox_fixture.head(row.id))["birth"] != before


async def test_updated_at_is_the_time_of_the_claim(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.notify(updated_at="2020-01-01")
    await outbox_fixture.claim()
    touched: datetime = (await outbox_fixture.row(row))["updated_at"]
    assert touched.year > 2020
