"""tail reports changed rows."""

import pytest

from dispatcher.cli.rows import ChangeTracker
from dispatcher.models.notification import RecipientState
from dispatcher.postgres import operator_queries
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.row_filter import RowFilter
from dispatcher.postgres.statements import load_query
from tests.postgres.operator_rows import ended
from tests.support.outbox_fixture import OutboxFixture


class TestChangeTracker:
    async def test_tail_reports_each_change_once_with_the_old_status(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        old = await ended(outbox_fixture, RecipientState.ACCEPTED)
        watch = ChangeTracker()

        async def news() -> list[tuple[int, str | None, str]]:
            rows = await queries.recent_changes(RowFilter(), watch.open_ids)
            return [(row["id"], was, row["status"]) for row, was in watch.diff(rows)]

        assert await news() == []
        row = await outbox_fixture.notify()
        assert await news() == [(row, None, "PENDING")]
        await outbox_fixture.claim()
        [held] = await outbox_fixture.acquire(row)
        assert await news() == [(row, "PENDING", "PROCESSING")]
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        assert await news() == [(row, "PROCESSING", "SENT")]
        await outbox_fixture.change(old.id, notification_status="RETRACTED")
        assert await news() == [(old.id, "SENT", "RETRACTED")]
        assert await news() == []

    async def test_tail_does_not_report_old_rows_that_enter_its_window(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.TAIL_LIMIT", 2)
        old, *_ = await outbox_fixture.many(4)
        watch = ChangeTracker()
        watch.diff(await queries.recent_changes(RowFilter(), []))
        await outbox_fixture.rows(
            "delete from notify.ent_notification where id = (select max(id) from notify.ent_notification)"
        )
        assert watch.diff(await queries.recent_changes(RowFilter(), watch.open_ids)) == []
        await outbox_fixture.change(old, notification_status="PROCESSING")
        await outbox_fixture.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at)"
            " values (%s, 'b', 1, 1, now(), clock_timestamp())",
            old,
        )
        assert [row["id"] for row, _ in watch.diff(await queries.recent_changes(RowFilter(), watch.open_ids))] == [old]

    async def test_tail_reports_a_row_that_ends_outside_its_window(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.TAIL_LIMIT", 1)
        held, _ = await outbox_fixture.acquired(), await outbox_fixture.notify()
        watch = ChangeTracker()
        watch.diff(await queries.recent_changes(RowFilter(), []))
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        told = watch.diff(await queries.recent_changes(RowFilter(), watch.open_ids))
        assert [(row["id"], was, row["status"]) for row, was in told] == [(held.id, "PROCESSING", "SENT")]

    async def test_tail_query_costs_the_same_in_a_large_table(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        await outbox_fixture.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', 'SENT', '{}', '{}' from generate_series(1, 20000) i"
        )
        await outbox_fixture.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at,"
            " settled_at) select id, 'b', 1, 1, now(), now(), now() from notify.ent_notification"
        )
        await outbox_fixture.rows("vacuum analyze notify.ent_notification, dispatcher.delivery")
        parts = vars(OperatorQueries)["_parts"](queries, {"matching": RowFilter().condition()})
        looked = load_query("operator/recent_changes", **parts).as_bytes()
        async with outbox_fixture.pool.connection() as connection:
            plan = await connection.execute(
                b"explain (analyze, buffers, format json) " + looked,
                {"watched_ids": [], "limit": operator_queries.TAIL_LIMIT},
            )
            [[[explained]]] = await plan.fetchall()
        read = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
        assert explained["Plan"]["Actual Rows"] <= 1000
        assert read < 5_000, "a few blocks for each of them"
