"""When the next row comes due by itself, and whose writes ring the bell."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from ledger_books import LEASE, Books, late

from dispatcher.models.notification import State


class TestNextDue:
    async def in_seconds(self, books: Books, seconds: float) -> Any:
        """Return the database's time, that much later."""
        return await books.value("select clock_timestamp() + %s * interval '1 s'", seconds)

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
    async def test_a_row_that_will_not_come_due_by_itself_is_not_waited_for(
        self, books: Books, columns: dict[str, Any]
    ):
        await books.notify(**columns)
        assert await books.outbox.next_due() is None

    async def test_the_nearest_of_all_is_waited_for(self, books: Books):
        await books.notify(scheduled_for=await self.in_seconds(books, 600))
        assert await books.outbox.next_due() == pytest.approx(600, abs=5)
        row = await books.held()
        await books.settle(row, State.UNKNOWN, timedelta(seconds=300))
        assert await books.outbox.next_due() == pytest.approx(300, abs=5)
        await books.notify(scheduled_for=await self.in_seconds(books, 60))
        assert await books.outbox.next_due() == pytest.approx(60, abs=5)

    async def test_a_retry_that_is_due_already_is_not_waited_for(self, books: Books):
        row = await books.held()
        await books.settle(row, State.UNKNOWN, timedelta(0))
        assert (await books.outbox.next_due() or 0) <= 0  # the next claim takes it

    async def test_other_enterprises_rows_are_not_waited_for(self, books: Books):
        await books.notify(scheduled_for="2999-01-01", enterprise_id=uuid4())
        assert await (await books.node("picky", uuid4())).next_due() is None


class TestBell:
    async def rings(self, books: Books, listener: psycopg.AsyncConnection[Any]) -> int:
        """Count what was heard until now; a last NOTIFY of ours tells that nothing more can come."""
        await books.rows("select pg_notify('dispatcher', 'the end')")
        heard = 0
        async for notify in listener.notifies(timeout=20):
            if notify.payload == "the end":
                return heard
            heard += 1
        raise AssertionError("the listener heard nothing at all")

    async def test_our_own_writes_ring_no_bell_and_the_owners_do(self, books: Books):
        async with await psycopg.AsyncConnection.connect(books.url, autocommit=True) as listener:
            await listener.execute("listen dispatcher")
            ids = await books.many(4)
            await books.notify(notification_status="PROCESSING")
            assert await self.rings(books, listener) == 1
            await books.claim()
            rows = await books.take(*ids)
            await books.settle(rows[0], State.ACCEPTED)
            await books.settle(rows[1], State.UNKNOWN, timedelta(0))
            await books.outbox.hand_back([rows[2]])
            await books.outbox.rescue(late(rows[3]), LEASE)
            await books.outbox.adopt(LEASE, 100)
            [start, *_] = (await books.claim()).starts
            await books.outbox.unclaim(start)
            await books.outbox.farewell()
            assert await self.rings(books, listener) == 0
            await books.change(ids[0], notification_status="PENDING")
            assert await self.rings(books, listener) == 1
