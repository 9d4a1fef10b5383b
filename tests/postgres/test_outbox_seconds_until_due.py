"""When the next row becomes due by itself, and whose writes send a NOTIFY."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import LEASE, OutboxFixture, late


class TestNextDue:
    async def in_seconds(self, outbox_fixture: OutboxFixture, seconds: float) -> Any:
        """Return the database's time, that much later."""
        return await outbox_fixture.value("select clock_timestamp() + %s * interval '1 s'", seconds)

    @pytest.mark.parametrize(
        "columns",
        [
            {},
            {"scheduled_for": "infinity"},
            {"scheduled_for": "2020-01-01"},
            {"scheduled_for": "2999-01-01", "publish_status": "DRAFT"},
            {"scheduled_for": "2999-01-01", "deactivated": True},
            {"scheduled_for": "2999-01-01", "notification_status": "RETRACTED"},
        ],
        ids=str,
    )
    async def test_row_that_never_becomes_due_by_itself_is_ignored(
        self, outbox_fixture: OutboxFixture, columns: dict[str, Any]
    ):
        await outbox_fixture.notify(**columns)
        assert await outbox_fixture.outbox.seconds_until_due() is None

    async def test_nearest_due_time_is_returned(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.notify(scheduled_for=await self.in_seconds(outbox_fixture, 600))
        assert await outbox_fixture.outbox.seconds_until_due() == pytest.approx(600, abs=5)
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(seconds=300))
        assert await outbox_fixture.outbox.seconds_until_due() == pytest.approx(300, abs=5)
        await outbox_fixture.notify(scheduled_for=await self.in_seconds(outbox_fixture, 60))
        assert await outbox_fixture.outbox.seconds_until_due() == pytest.approx(60, abs=5)

    async def test_retry_that_is_due_already_is_ignored(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
        assert (await outbox_fixture.outbox.seconds_until_due() or 0) <= 0  # the next claim takes it

    async def test_rows_of_other_enterprises_are_ignored(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.notify(scheduled_for="2999-01-01", enterprise_id=uuid4())
        assert await (await outbox_fixture.node("picky", uuid4())).seconds_until_due() is None


class TestNotify:
    async def count_notifies(self, outbox_fixture: OutboxFixture, listener: psycopg.AsyncConnection[Any]) -> int:
        """Count the NOTIFYs received so far; a last NOTIFY of ours marks the end."""
        await outbox_fixture.rows("select pg_notify('dispatcher', 'the end')")
        heard = 0
        async for notify in listener.notifies(timeout=20):
            if notify.payload == "the end":
                return heard
            heard += 1
        raise AssertionError("the listener heard nothing at all")

    async def test_owners_writes_send_a_notify_and_ours_do_not(self, outbox_fixture: OutboxFixture):
        async with await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as listener:
            await listener.execute("listen dispatcher")
            ids = await outbox_fixture.many(4)
            await outbox_fixture.notify(notification_status="PROCESSING")
            assert await self.count_notifies(outbox_fixture, listener) == 2, "one for each INSERT, whatever it inserts"
            await outbox_fixture.claim()
            rows = await outbox_fixture.acquire(*ids)
            await outbox_fixture.settle(rows[0], RecipientState.ACCEPTED)
            await outbox_fixture.settle(rows[1], RecipientState.UNKNOWN, timedelta(0))
            await outbox_fixture.outbox.release([rows[2]])
            await outbox_fixture.outbox.rescue(late(rows[3]), LEASE)
            await outbox_fixture.outbox.adopt_orphans(LEASE, 100)
            [start, *_] = (await outbox_fixture.claim()).starts
            await outbox_fixture.outbox.release_unstarted(start)
            await outbox_fixture.outbox.release_node()
            assert await self.count_notifies(outbox_fixture, listener) == 0
            await outbox_fixture.change(ids[0], notification_status="PENDING")
            assert await self.count_notifies(outbox_fixture, listener) == 1
