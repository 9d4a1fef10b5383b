"""What an operator reads and changes: the update an application would write, its entry in the books, nothing else."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

from dispatcher.cli.change_output import obstacle_text
from dispatcher.cli.next_step import next_step
from dispatcher.cli.rows import ChangeTracker
from dispatcher.install import render_grants
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres import operator_queries
from dispatcher.postgres.operator_decisions import RETRACTION_PENDING
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import borrow_connection
from dispatcher.postgres.row_filter import RowFilter
from dispatcher.postgres.statements import TableNames, load_query
from tests.support.outbox_fixture import RELATIONS, OutboxFixture, calls_of, ids_of

HOSTILE = "\x1b[31mred\x1b[0m [bold]loud[/bold] \x07\n\u202eevil"


def queries_on(outbox_fixture: OutboxFixture) -> OperatorQueries:
    """Return the operations on a pool, whose sessions say the opposite of what operations need."""
    return OperatorQueries(lambda: borrow_connection(outbox_fixture.pool), RELATIONS, actor="ana@queries")


@pytest.fixture
async def queries(outbox_fixture: OutboxFixture) -> OperatorQueries:
    queries = queries_on(outbox_fixture)
    await queries.prepare()
    return queries


async def ended(
    outbox_fixture: OutboxFixture, state: RecipientState, wait: timedelta | None = None, **columns: Any
) -> Notification:
    """Send a notification, and conclude it."""
    row = await outbox_fixture.acquired(**columns)
    await outbox_fixture.settle(row, state, wait)
    return row


async def actions(outbox_fixture: OutboxFixture) -> list[Any]:
    return await outbox_fixture.rows(
        "select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id"
    )


class TestResend:
    async def test_row_resent_since_the_preview_is_not_resent(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.ACCEPTED)
        preview = await queries.preview(RowFilter(ids=(row.id,)))
        assert await queries.resend(preview) == [row.id]
        await outbox_fixture.claim()
        [again] = await outbox_fixture.acquire(row.id)
        await outbox_fixture.settle(again, RecipientState.ACCEPTED)
        assert await outbox_fixture.status(row.id) == "SENT", "as the preview showed it"
        assert await queries.resend(preview) == []

    async def test_resent_dead_letter_is_a_new_generation_for_all_recipients(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        [seen] = await queries.preview(RowFilter(dead=True))
        assert (seen.id, seen.status, seen.accepted, seen.unknown) == (row.id, "FAILED", 0, 0)
        assert await queries.resend([seen], "Novu is back") == [row.id]
        assert await outbox_fixture.status(row.id) == "PENDING"
        assert ids_of(await outbox_fixture.claim()) == [row.id]
        assert (await outbox_fixture.head(row.id))["generation"] == 2

    async def test_every_batch_is_recorded_with_its_operator_and_old_values(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        failed, sent = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.ACCEPTED),
        )
        await queries.resend(await queries.preview(RowFilter(ids=(failed.id, sent.id))), "by mistake")
        [[actor, action, ids, detail]] = await actions(outbox_fixture)
        assert (actor, action, sorted(ids)) == ("postgres (ana@queries)", "retry", sorted([failed.id, sent.id]))
        assert detail == {"was": {"FAILED": [failed.id], "SENT": [sent.id]}, "reason": "by mistake"}
        assert await queries.resend([]) == []
        assert len(await actions(outbox_fixture)) == 1, "what changes nothing is no action"

    async def test_row_changed_since_the_preview_is_not_resent(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        seen = await queries.preview(RowFilter(ids=(row.id,)))
        await outbox_fixture.change(row.id, notification_status="SENT")
        assert await queries.resend(seen) == []
        assert await outbox_fixture.status(row.id) == "SENT"
        assert await actions(outbox_fixture) == []

    async def test_locked_row_is_skipped_and_the_others_are_resent(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        first, second = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.REFUSED),
        )
        seen = await queries.preview(RowFilter(statuses=("FAILED",)))
        async with outbox_fixture.owner.transaction():
            await outbox_fixture.rows("select from notify.ent_notification where id = %s for update", first.id)
            assert await queries.resend(seen) == [second.id]
        assert await queries.resend(seen) == [first.id]

    async def test_undetected_retraction_is_not_overwritten_by_a_resend(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="RETRACTED")
        [seen] = await queries.preview(RowFilter(ids=(row.id,)))
        assert not seen.retraction_noticed
        assert obstacle_text("retry", seen) == RETRACTION_PENDING
        assert await queries.resend([seen]) == []
        await outbox_fixture.outbox.detect_retracted(10)
        assert await queries.resend(await queries.preview(RowFilter(ids=(row.id,)))) == [row.id]

    async def test_resend_sends_a_notify_like_an_application(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        async with await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as listener:
            await listener.execute("listen dispatcher")
            assert await queries.resend(await queries.preview(RowFilter(ids=(row.id,)))) == [row.id]
            heard = [notify.channel async for notify in listener.notifies(timeout=20, stop_after=1)]
        assert heard == ["dispatcher"]

    async def test_preview_names_repeated_recipients_and_waiting_rows(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        sent = await ended(outbox_fixture, RecipientState.ACCEPTED, recipients=[uuid4(), uuid4()])
        unknown = await ended(outbox_fixture, RecipientState.UNKNOWN, timedelta(hours=1))
        await outbox_fixture.change(unknown.id, deactivated=True)
        first, second = await queries.preview(RowFilter())
        assert (first.id, first.recipients, first.accepted, first.retry_waits, first.closed) == (
            sent.id,
            2,
            2,
            False,
            False,
        )
        assert (second.id, second.unknown, second.retry_waits, second.closed) == (unknown.id, 1, True, True)


class TestRetract:
    async def test_retract_cancels_sent_rows_and_stops_unsent_ones(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        sent = await ended(outbox_fixture, RecipientState.ACCEPTED)
        waiting = await outbox_fixture.notify()
        held = await outbox_fixture.notify()
        assert await queries.retract(await queries.preview(RowFilter()), "wrong lift") == [sent.id, waiting, held]
        assert ids_of(await outbox_fixture.claim()) == []
        assert await outbox_fixture.outbox.detect_retracted(10) == {sent.id: 1, waiting: 0, held: 0}
        reasons = "select distinct retraction_reason, retracted_at is not null from notify.ent_notification"
        assert await outbox_fixture.rows(reasons) == [("wrong lift", True)]

    async def test_row_in_processing_is_retracted_and_its_run_stops_sending(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await outbox_fixture.acquired()
        assert await queries.retract(await queries.preview(RowFilter(ids=(row.id,)))) == [row.id]
        assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.status(row.id) == "RETRACTED"


class TestReads:
    async def test_filters_select_the_described_rows(self, outbox_fixture: OutboxFixture, queries: OperatorQueries):
        ours = uuid4()
        failed = await ended(outbox_fixture, RecipientState.REFUSED, enterprise_id=ours)
        sent = await ended(outbox_fixture, RecipientState.ACCEPTED)
        old = await outbox_fixture.notify(
            created_at="2020-01-01", notification_workflow_id=await outbox_fixture.workflow("default-sms")
        )
        partial = await outbox_fixture.notify(notification_status="FAILED", error_details='{"outcome": "PARTIAL"}')
        wanted: dict[str, tuple[RowFilter, list[int]]] = {
            "nothing": (RowFilter(), [partial, old, sent.id, failed.id]),
            "status": (RowFilter(statuses=("SENT",)), [sent.id]),
            "PARTIAL": (RowFilter(statuses=("PARTIAL",)), [partial]),
            "enterprise": (RowFilter(enterprise=str(ours)), [failed.id]),
            "workflow": (RowFilter(workflow="default-sms"), [old]),
            "error": (RowFilter(error="http 503"), [failed.id]),
            "no wildcard": (RowFilter(error="HTTP%503"), []),
            "since": (RowFilter(since=timedelta(hours=1)), [partial, sent.id, failed.id]),
            "until": (RowFilter(until=timedelta(hours=1)), [old]),
            "dead": (RowFilter(dead=True), [failed.id]),
            "ids": (RowFilter(ids=(old, sent.id)), [old, sent.id]),
            "both": (RowFilter(statuses=("SENT", "FAILED"), enterprise=str(ours)), [failed.id]),
        }
        found = {
            name: [row["id"] for row in await queries.list_rows(filters, 10)] for name, (filters, _) in wanted.items()
        }
        assert found == {name: ids for name, (_, ids) in wanted.items()}

    async def test_pages_have_no_gap_and_no_overlap(self, outbox_fixture: OutboxFixture, queries: OperatorQueries):
        ids = await outbox_fixture.many(7)
        first = [row["id"] for row in await queries.list_rows(RowFilter(), 3)]
        await outbox_fixture.many(2)
        rest = [row["id"] for row in await queries.list_rows(RowFilter(), 10, first[-1])]
        assert first + rest == sorted(ids, reverse=True)

    @pytest.mark.parametrize(
        "odd",
        [
            {"scheduled_for": "infinity"},
            {"scheduled_for": "-infinity"},
            {"created_at": "infinity"},
            {"created_at": "20000-01-01"},
            {"name": HOSTILE},
            {"error_details": '"words"'},
            {"error_details": "[1, null]"},
            {"recipients": []},
            {"notification_workflow_id": None},
        ],
    )
    async def test_row_with_any_content_is_shown(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries, odd: dict[str, Any]
    ):
        row = await outbox_fixture.notify(**odd)
        [listed] = await queries.list_rows(RowFilter(), 10)
        shown = await queries.find_row(row)
        assert shown is not None
        assert listed["id"] == shown["id"] == row
        assert [seen.id for seen in await queries.preview(RowFilter())] == [row]
        assert [each["id"] for each in await queries.recent_changes(RowFilter(), [])] == [row]
        assert await queries.count_by_status()

    async def test_show_returns_recipients_and_the_reason_a_row_waits(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
        await outbox_fixture.outbox.record_calls(calls_of(row))
        shown = await queries.find_row(row.id)
        assert shown is not None
        assert (shown["status"], shown["held"], shown["lease_owner"]) == ("PROCESSING", True, "here")
        assert shown["temporal_workflow_id"] == (await outbox_fixture.head(row.id))["workflow_id"]
        recipients, total = await queries.recipients(row.id, 1)
        assert ([each["state"] for each in recipients], total) == (["sending"], 2)
        assert await queries.find_row(10**12) is None

    async def test_next_event_is_given_for_every_row(self, outbox_fixture: OutboxFixture, queries: OperatorQueries):
        dead, waiting = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.REFUSED, timedelta(hours=1)),
        )
        sent, retracted_rows, going = [await ended(outbox_fixture, RecipientState.ACCEPTED) for _ in range(3)]
        held, lost = await outbox_fixture.acquired(), await outbox_fixture.acquired()
        await outbox_fixture.change(retracted_rows.id, notification_status="RETRACTED")
        await outbox_fixture.outbox.detect_retracted(10)
        await outbox_fixture.expire(lost.id)
        await outbox_fixture.change(going.id, notification_status="RETRACTED")
        sentences = {
            await outbox_fixture.notify(): "no dispatcher is running",
            await outbox_fixture.notify(publish_status="DRAFT"): "until it is published",
            await outbox_fixture.notify(deactivated=True): "deactivated",
            await outbox_fixture.notify(scheduled_for="2999-01-01"): "it becomes due at 2999-01-01 00:00:00 UTC, in",
            await outbox_fixture.notify(scheduled_for="infinity"): "it becomes due at infinity",
            await outbox_fixture.notify(notification_status="PROCESSING"): "it has no lease",
            await outbox_fixture.notify(notification_status="FAILED"): "sends it again to all recipients",
            dead.id: "a dead letter since",
            waiting.id: "retried at",
            sent.id: "Novu accepted it",
            held.id: "here is working on it",
            lost.id: "its lease ran out",
            going.id: "detects the retraction",
            retracted_rows.id: "triggers of 1 recipients are still being cancelled",
        }
        said = {row: next_step(found) for row in sentences if (found := await queries.find_row(row))}
        assert {row: sentence for row, sentence in sentences.items() if sentence not in said[row]} == {}, said

    async def test_counts_are_exact_or_marked_as_estimates(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        await ended(outbox_fixture, RecipientState.ACCEPTED)
        await outbox_fixture.notify(created_at="2020-01-01", scheduled_for="2999-01-01")
        await outbox_fixture.notify(publish_status="DRAFT")
        await outbox_fixture.notify(created_at="2020-01-01", scheduled_for="2020-01-02")
        await outbox_fixture.notify(scheduled_for="-infinity")
        found = await queries.count_by_status()
        assert (found["counts"], found["counts_exact"]) == ({"SENT": 1, "PENDING": 4}, True)
        assert (found["due"], found["scheduled"]) == (2, 1)
        assert found["oldest_due_seconds"] is not None
        assert found["oldest_due_seconds"] > 86_400

    async def test_count_of_a_too_large_table_is_an_estimate(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        await outbox_fixture.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', (case when mod(i, 4) = 0 then 'FAILED' else 'SENT' end)"
            "::shared_types.notification_status, '{}', '{}' from generate_series(1, 20000) i"
        )
        await outbox_fixture.many(3)
        await outbox_fixture.rows("analyze notify.ent_notification")
        found = await queries.count_by_status(within="1ms")
        assert not found["counts_exact"]
        assert found["due"] == 3
        assert found["counts"]["SENT"] == pytest.approx(15_000, rel=0.2)
        assert found["counts"]["FAILED"] == pytest.approx(5_000, rel=0.2)

    async def test_health_returns_nodes_triggers_and_waiting_rows(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        await outbox_fixture.outbox.heartbeat(role="all", host="h", version="1", mode="EVENT")
        await (await outbox_fixture.node("gone")).heartbeat(role="all", host="h", version="1", mode="EVENT")
        await outbox_fixture.rows("update dispatcher.node set seen_at = seen_at - interval '1 h' where id = 'gone'")
        row = await outbox_fixture.acquired()
        await outbox_fixture.expire(row.id)
        await outbox_fixture.notify(notification_status="PROCESSING")
        await outbox_fixture.rows("alter table notify.ent_notification disable trigger dispatcher_update")
        found = await queries.read_health()
        assert {node["id"]: node["alive"] for node in found["nodes"]} == {"here": True, "gone": False}
        assert found["triggers"] == {"dispatcher_insert": True, "dispatcher_update": False}
        assert (found["leases_run_out"], found["unheld"]) == (1, 1)
        await outbox_fixture.rows("drop trigger dispatcher_insert on notify.ent_notification")
        assert "dispatcher_insert" not in (await queries.read_health())["triggers"]


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


class TestSendTest:
    async def test_send_test_inserts_a_row_like_an_application(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        recipient = uuid4()
        trial = await queries.insert_test("default-in-app", recipient, None, '{"title": "t"}')
        assert trial is not None
        [held] = await outbox_fixture.acquire(*ids_of(await outbox_fixture.claim()))
        assert (held.id, [each.id for each in held.recipients]) == (trial.id, [str(recipient)])
        at = await queries.test_progress(trial)
        assert at is not None
        assert (at["status"], at["called"], at["settled"]) == ("PROCESSING", None, None)
        assert not await queries.remove_test(trial), "nothing is deleted under a run's hands"
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        at = await queries.test_progress(trial)
        assert at is not None
        assert at["called"] is not None
        assert at["settled"] is not None
        assert 0 <= at["called"] <= at["settled"]
        assert await queries.remove_test(trial)
        assert await queries.test_progress(trial) is None
        assert [action for _, action, _, _ in await actions(outbox_fixture)] == ["send-test", "send-test cleanup"]

    async def test_send_test_takes_the_enterprise_of_its_workflow(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        ours = uuid4()
        key = "update notify.ent_notification_workflow set enterprise_id = %s where workflow_key = 'default-sms'"
        await outbox_fixture.rows(key, ours)
        trial = await queries.insert_test("default-sms", uuid4(), None, "{}")
        assert trial is not None
        assert trial.enterprise == str(ours)
        assert await queries.insert_test("nope", uuid4(), None, "{}") is None
        assert "default-sms" in await queries.workflow_keys()


@asynccontextmanager
async def as_role(outbox_fixture: OutboxFixture, role: str, *, operator: bool) -> AsyncGenerator[OperatorQueries]:
    """Hand out the operations as a role sees them that has the grants, and nothing else."""
    name = sql.Identifier(role)
    await outbox_fixture.owner.execute(sql.SQL("create role {} login").format(name))
    await outbox_fixture.owner.execute(render_grants("notify.ent_notification", role, operator=operator).encode())
    try:
        url = make_conninfo(outbox_fixture.url, user=role)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

            @asynccontextmanager
            async def lend() -> AsyncGenerator[Any]:
                yield connection

            queries = OperatorQueries(lend, RELATIONS)
            await queries.prepare()
            yield queries
    finally:
        await outbox_fixture.owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


async def test_operator_grants_are_enough_and_allow_no_other_delete(outbox_fixture: OutboxFixture):
    async with as_role(outbox_fixture, "queries 'op'", operator=True) as queries:
        row = await ended(outbox_fixture, RecipientState.REFUSED, name="Lift")
        assert [each["name"] for each in await queries.list_rows(RowFilter(), 1)] == ["Lift"]
        assert await queries.find_row(row.id)
        assert (await queries.recipients(row.id, 5))[1] == 1
        assert await queries.recent_changes(RowFilter(), [])
        assert await queries.read_health()
        assert await queries.count_by_status()
        assert await queries.count_by_status(within="1ms")
        assert await queries.resend(await queries.preview(RowFilter()), "r") == [row.id]
        assert await queries.retract(await queries.preview(RowFilter()), "r") == [row.id]
        trial = await queries.insert_test("default-in-app", uuid4(), None, "{}")
        assert trial is not None
        assert await queries.test_progress(trial)
        await outbox_fixture.change(trial.id, notification_status="SENT")
        with pytest.raises(InsufficientPrivilege):
            await queries.remove_test(trial)
        assert json.loads((await outbox_fixture.rows("select detail from dispatcher.action"))[0][0])["reason"] == "r"


async def test_role_of_run_may_read_and_change_nothing(outbox_fixture: OutboxFixture):
    async with as_role(outbox_fixture, "queries run", operator=False) as queries:
        row = await ended(outbox_fixture, RecipientState.REFUSED, name="Lift")
        assert [each["name"] for each in await queries.list_rows(RowFilter(), 1)] == [None]
        assert await queries.find_row(row.id)
        assert (await queries.recipients(row.id, 5))[1] == 1
        assert await queries.recent_changes(RowFilter(), [])
        assert await queries.read_health()
        assert await queries.count_by_status()
        with pytest.raises(InsufficientPrivilege):
            await queries.resend(await queries.preview(RowFilter()))
        assert await outbox_fixture.status(row.id) == "FAILED", "no change without its entry in the books"


@pytest.mark.parametrize(("damage", "said"), [
    ("drop schema dispatcher cascade", "run: dispatcher db install"),
    ("alter table notify.ent_notification rename to gone", "does not exist or is no outbox"),
])  # fmt: skip
async def test_missing_objects_are_named(outbox_fixture: OutboxFixture, damage: str, said: str):
    await outbox_fixture.rows(damage)
    with pytest.raises(ConfigurationError, match=said):
        await queries_on(outbox_fixture).prepare()


async def test_outbox_without_name_and_reason_columns_works(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows(
        "alter table notify.ent_notification drop column name cascade, drop column retraction_reason"
    )
    relations = TableNames(RELATIONS.outbox, RELATIONS.workflow)
    queries = OperatorQueries(lambda: borrow_connection(outbox_fixture.pool), relations)
    await queries.prepare()
    trial = await queries.insert_test("default-in-app", uuid4(), None, "{}")
    assert trial is not None
    assert [row["name"] for row in await queries.list_rows(RowFilter(), 5)] == [None]
    assert await queries.retract(await queries.preview(RowFilter()), "over") == [trial.id]
