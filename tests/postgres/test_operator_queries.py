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


def desk_on(outbox_fixture: OutboxFixture) -> OperatorQueries:
    """Return the operations on a pool, whose sessions say the opposite of what operations need."""
    return OperatorQueries(lambda: borrow_connection(outbox_fixture.pool), RELATIONS, actor="ana@desk")


@pytest.fixture
async def desk(outbox_fixture: OutboxFixture) -> OperatorQueries:
    desk = desk_on(outbox_fixture)
    await desk.prepare()
    return desk


async def ended(
    outbox_fixture: OutboxFixture, state: RecipientState, wait: timedelta | None = None, **columns: Any
) -> Notification:
    """Send a notification, and conclude it."""
    row = await outbox_fixture.held(**columns)
    await outbox_fixture.settle(row, state, wait)
    return row


async def actions(outbox_fixture: OutboxFixture) -> list[Any]:
    return await outbox_fixture.rows(
        "select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id"
    )


class TestSendingAgain:
    async def test_a_row_that_was_sent_again_since_the_preview_is_left_alone(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.ACCEPTED)
        preview = await desk.preview(RowFilter(ids=(row.id,)))
        assert await desk.resend(preview) == [row.id]
        await outbox_fixture.claim()
        [again] = await outbox_fixture.take(row.id)
        await outbox_fixture.settle(again, RecipientState.ACCEPTED)
        assert await outbox_fixture.status(row.id) == "SENT", "as the preview showed it"
        assert await desk.resend(preview) == []

    async def test_a_dead_letter_is_a_new_sending_to_everybody(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        [seen] = await desk.preview(RowFilter(dead=True))
        assert (seen.id, seen.status, seen.accepted, seen.unknown) == (row.id, "FAILED", 0, 0)
        assert await desk.resend([seen], "Novu is back") == [row.id]
        assert await outbox_fixture.status(row.id) == "PENDING"
        assert ids_of(await outbox_fixture.claim()) == [row.id]
        assert (await outbox_fixture.head(row.id))["generation"] == 2

    async def test_every_batch_is_in_the_books_with_who_and_what_was(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        failed, sent = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.ACCEPTED),
        )
        await desk.resend(await desk.preview(RowFilter(ids=(failed.id, sent.id))), "by mistake")
        [[actor, action, ids, detail]] = await actions(outbox_fixture)
        assert (actor, action, sorted(ids)) == ("postgres (ana@desk)", "retry", sorted([failed.id, sent.id]))
        assert detail == {"was": {"FAILED": [failed.id], "SENT": [sent.id]}, "reason": "by mistake"}
        assert await desk.resend([]) == []
        assert len(await actions(outbox_fixture)) == 1, "what changes nothing is no action"

    async def test_a_row_that_changed_since_the_preview_is_left_alone(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        seen = await desk.preview(RowFilter(ids=(row.id,)))
        await outbox_fixture.change(row.id, notification_status="SENT")
        assert await desk.resend(seen) == []
        assert await outbox_fixture.status(row.id) == "SENT"
        assert await actions(outbox_fixture) == []

    async def test_a_locked_row_is_left_out_and_the_others_are_done(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        first, second = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.REFUSED),
        )
        seen = await desk.preview(RowFilter(statuses=("FAILED",)))
        async with outbox_fixture.owner.transaction():
            await outbox_fixture.rows("select from notify.ent_notification where id = %s for update", first.id)
            assert await desk.resend(seen) == [second.id]
        assert await desk.resend(seen) == [first.id]

    async def test_a_retraction_that_nobody_noticed_is_not_swept_away(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="RETRACTED")
        [seen] = await desk.preview(RowFilter(ids=(row.id,)))
        assert not seen.retraction_noticed
        assert obstacle_text("retry", seen) == RETRACTION_PENDING
        assert await desk.resend([seen]) == []
        await outbox_fixture.outbox.detect_retracted(10)
        assert await desk.resend(await desk.preview(RowFilter(ids=(row.id,)))) == [row.id]

    async def test_it_rings_as_an_applications_update_does(self, outbox_fixture: OutboxFixture, desk: OperatorQueries):
        row = await ended(outbox_fixture, RecipientState.REFUSED)
        async with await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as listener:
            await listener.execute("listen dispatcher")
            assert await desk.resend(await desk.preview(RowFilter(ids=(row.id,)))) == [row.id]
            heard = [notify.channel async for notify in listener.notifies(timeout=20, stop_after=1)]
        assert heard == ["dispatcher"]

    async def test_the_preview_knows_who_gets_it_again_and_what_waits(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        sent = await ended(outbox_fixture, RecipientState.ACCEPTED, recipients=[uuid4(), uuid4()])
        unknown = await ended(outbox_fixture, RecipientState.UNKNOWN, timedelta(hours=1))
        await outbox_fixture.change(unknown.id, deactivated=True)
        first, second = await desk.preview(RowFilter())
        assert (first.id, first.recipients, first.accepted, first.retry_waits, first.closed) == (
            sent.id,
            2,
            2,
            False,
            False,
        )
        assert (second.id, second.unknown, second.retry_waits, second.closed) == (unknown.id, 1, True, True)


class TestTakingBack:
    async def test_what_was_sent_is_taken_back_and_what_was_not_never_is_sent(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        sent = await ended(outbox_fixture, RecipientState.ACCEPTED)
        waiting = await outbox_fixture.notify()
        held = await outbox_fixture.notify()
        assert await desk.retract(await desk.preview(RowFilter()), "wrong lift") == [sent.id, waiting, held]
        assert ids_of(await outbox_fixture.claim()) == []
        assert await outbox_fixture.outbox.detect_retracted(10) == {sent.id: 1, waiting: 0, held: 0}
        reasons = "select distinct retraction_reason, retracted_at is not null from notify.ent_notification"
        assert await outbox_fixture.rows(reasons) == [("wrong lift", True)]

    async def test_a_row_in_work_is_retracted_and_its_run_sends_nothing_more(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await outbox_fixture.held()
        assert await desk.retract(await desk.preview(RowFilter(ids=(row.id,)))) == [row.id]
        assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()
        await outbox_fixture.outbox.release([row])
        assert await outbox_fixture.status(row.id) == "RETRACTED"


class TestLooking:
    async def test_filters_find_what_they_say(self, outbox_fixture: OutboxFixture, desk: OperatorQueries):
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
            name: [row["id"] for row in await desk.list_rows(filters, 10)] for name, (filters, _) in wanted.items()
        }
        assert found == {name: ids for name, (_, ids) in wanted.items()}

    async def test_pages_follow_each_other_without_gap_and_overlap(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        ids = await outbox_fixture.many(7)
        first = [row["id"] for row in await desk.list_rows(RowFilter(), 3)]
        await outbox_fixture.many(2)
        rest = [row["id"] for row in await desk.list_rows(RowFilter(), 10, first[-1])]
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
    async def test_a_row_is_shown_whatever_it_holds(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries, odd: dict[str, Any]
    ):
        row = await outbox_fixture.notify(**odd)
        [listed] = await desk.list_rows(RowFilter(), 10)
        shown = await desk.find_row(row)
        assert shown is not None
        assert listed["id"] == shown["id"] == row
        assert [seen.id for seen in await desk.preview(RowFilter())] == [row]
        assert [each["id"] for each in await desk.recent_changes(RowFilter(), [])] == [row]
        assert await desk.count_by_status()

    async def test_show_knows_recipients_and_what_holds_the_row(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        row = await outbox_fixture.held(recipients=[uuid4(), uuid4()])
        await outbox_fixture.outbox.record_calls(calls_of(row))
        shown = await desk.find_row(row.id)
        assert shown is not None
        assert (shown["status"], shown["held"], shown["lease_owner"]) == ("PROCESSING", True, "here")
        assert shown["temporal_workflow_id"] == (await outbox_fixture.head(row.id))["workflow_id"]
        recipients, total = await desk.recipients(row.id, 1)
        assert ([each["state"] for each in recipients], total) == (["sending"], 2)
        assert await desk.find_row(10**12) is None

    async def test_what_happens_next_is_said_of_every_row(self, outbox_fixture: OutboxFixture, desk: OperatorQueries):
        dead, waiting = (
            await ended(outbox_fixture, RecipientState.REFUSED),
            await ended(outbox_fixture, RecipientState.REFUSED, timedelta(hours=1)),
        )
        sent, taken_back, going = [await ended(outbox_fixture, RecipientState.ACCEPTED) for _ in range(3)]
        held, lost = await outbox_fixture.held(), await outbox_fixture.held()
        await outbox_fixture.change(taken_back.id, notification_status="RETRACTED")
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
            taken_back.id: "triggers of 1 recipients are still being cancelled",
        }
        said = {row: next_step(found) for row in sentences if (found := await desk.find_row(row))}
        assert {row: sentence for row, sentence in sentences.items() if sentence not in said[row]} == {}, said

    async def test_counts_are_exact_or_say_that_they_are_not(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        await ended(outbox_fixture, RecipientState.ACCEPTED)
        await outbox_fixture.notify(created_at="2020-01-01", scheduled_for="2999-01-01")
        await outbox_fixture.notify(publish_status="DRAFT")
        await outbox_fixture.notify(created_at="2020-01-01", scheduled_for="2020-01-02")
        await outbox_fixture.notify(scheduled_for="-infinity")
        found = await desk.count_by_status()
        assert (found["counts"], found["counts_exact"]) == ({"SENT": 1, "PENDING": 4}, True)
        assert (found["due"], found["scheduled"]) == (2, 1)
        assert found["oldest_due_seconds"] is not None
        assert found["oldest_due_seconds"] > 86_400

    async def test_a_table_too_large_to_be_counted_is_estimated(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        await outbox_fixture.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', (case when mod(i, 4) = 0 then 'FAILED' else 'SENT' end)"
            "::shared_types.notification_status, '{}', '{}' from generate_series(1, 20000) i"
        )
        await outbox_fixture.many(3)
        await outbox_fixture.rows("analyze notify.ent_notification")
        found = await desk.count_by_status(within="1ms")
        assert not found["counts_exact"]
        assert found["due"] == 3
        assert found["counts"]["SENT"] == pytest.approx(15_000, rel=0.2)
        assert found["counts"]["FAILED"] == pytest.approx(5_000, rel=0.2)

    async def test_health_knows_nodes_triggers_and_what_waits(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        await outbox_fixture.outbox.heartbeat(role="all", host="h", version="1", mode="EVENT")
        await (await outbox_fixture.node("gone")).heartbeat(role="all", host="h", version="1", mode="EVENT")
        await outbox_fixture.rows("update dispatcher.node set seen_at = seen_at - interval '1 h' where id = 'gone'")
        row = await outbox_fixture.held()
        await outbox_fixture.expire(row.id)
        await outbox_fixture.notify(notification_status="PROCESSING")
        await outbox_fixture.rows("alter table notify.ent_notification disable trigger dispatcher_update")
        found = await desk.read_health()
        assert {node["id"]: node["alive"] for node in found["nodes"]} == {"here": True, "gone": False}
        assert found["triggers"] == {"dispatcher_insert": True, "dispatcher_update": False}
        assert (found["leases_run_out"], found["unheld"]) == (1, 1)
        await outbox_fixture.rows("drop trigger dispatcher_insert on notify.ent_notification")
        assert "dispatcher_insert" not in (await desk.read_health())["triggers"]


class TestWatching:
    async def test_each_change_is_told_once_with_what_it_was(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        old = await ended(outbox_fixture, RecipientState.ACCEPTED)
        watch = ChangeTracker()

        async def news() -> list[tuple[int, str | None, str]]:
            rows = await desk.recent_changes(RowFilter(), watch.open_ids)
            return [(row["id"], was, row["status"]) for row, was in watch.diff(rows)]

        assert await news() == []
        row = await outbox_fixture.notify()
        assert await news() == [(row, None, "PENDING")]
        await outbox_fixture.claim()
        [held] = await outbox_fixture.take(row)
        assert await news() == [(row, "PENDING", "PROCESSING")]
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        assert await news() == [(row, "PROCESSING", "SENT")]
        await outbox_fixture.change(old.id, notification_status="RETRACTED")
        assert await news() == [(old.id, "SENT", "RETRACTED")]
        assert await news() == []

    async def test_old_rows_that_come_into_sight_are_no_news(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.TAIL_LIMIT", 2)
        old, *_ = await outbox_fixture.many(4)
        watch = ChangeTracker()
        watch.diff(await desk.recent_changes(RowFilter(), []))
        await outbox_fixture.rows(
            "delete from notify.ent_notification where id = (select max(id) from notify.ent_notification)"
        )
        assert watch.diff(await desk.recent_changes(RowFilter(), watch.open_ids)) == []
        await outbox_fixture.change(old, notification_status="PROCESSING")
        await outbox_fixture.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at)"
            " values (%s, 'b', 1, 1, now(), clock_timestamp())",
            old,
        )
        assert [row["id"] for row, _ in watch.diff(await desk.recent_changes(RowFilter(), watch.open_ids))] == [old]

    async def test_a_row_that_leaves_the_sight_by_ending_is_told(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.TAIL_LIMIT", 1)
        held, _ = await outbox_fixture.held(), await outbox_fixture.notify()
        watch = ChangeTracker()
        watch.diff(await desk.recent_changes(RowFilter(), []))
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        told = watch.diff(await desk.recent_changes(RowFilter(), watch.open_ids))
        assert [(row["id"], was, row["status"]) for row, was in told] == [(held.id, "PROCESSING", "SENT")]

    async def test_a_look_costs_the_same_in_a_large_table(self, outbox_fixture: OutboxFixture, desk: OperatorQueries):
        await outbox_fixture.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', 'SENT', '{}', '{}' from generate_series(1, 20000) i"
        )
        await outbox_fixture.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at,"
            " settled_at) select id, 'b', 1, 1, now(), now(), now() from notify.ent_notification"
        )
        await outbox_fixture.rows("vacuum analyze notify.ent_notification, dispatcher.delivery")
        parts = vars(OperatorQueries)["_parts"](desk, {"matching": RowFilter().condition()})
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


class TestTrying:
    async def test_a_test_is_a_row_as_an_application_writes_it(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        recipient = uuid4()
        trial = await desk.insert_test("default-in-app", recipient, None, '{"title": "t"}')
        assert trial is not None
        [held] = await outbox_fixture.take(*ids_of(await outbox_fixture.claim()))
        assert (held.id, [each.id for each in held.recipients]) == (trial.id, [str(recipient)])
        at = await desk.test_progress(trial)
        assert at is not None
        assert (at["status"], at["called"], at["settled"]) == ("PROCESSING", None, None)
        assert not await desk.remove_test(trial), "nothing is deleted under a run's hands"
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        at = await desk.test_progress(trial)
        assert at is not None
        assert at["called"] is not None
        assert at["settled"] is not None
        assert 0 <= at["called"] <= at["settled"]
        assert await desk.remove_test(trial)
        assert await desk.test_progress(trial) is None
        assert [action for _, action, _, _ in await actions(outbox_fixture)] == ["send-test", "send-test cleanup"]

    async def test_a_workflow_of_one_enterprise_decides_whose_it_is(
        self, outbox_fixture: OutboxFixture, desk: OperatorQueries
    ):
        ours = uuid4()
        key = "update notify.ent_notification_workflow set enterprise_id = %s where workflow_key = 'default-sms'"
        await outbox_fixture.rows(key, ours)
        trial = await desk.insert_test("default-sms", uuid4(), None, "{}")
        assert trial is not None
        assert trial.enterprise == str(ours)
        assert await desk.insert_test("nope", uuid4(), None, "{}") is None
        assert "default-sms" in await desk.workflow_keys()


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

            desk = OperatorQueries(lend, RELATIONS)
            await desk.prepare()
            yield desk
    finally:
        await outbox_fixture.owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


async def test_the_operators_grants_are_enough_and_delete_nothing(outbox_fixture: OutboxFixture):
    async with as_role(outbox_fixture, "desk 'op'", operator=True) as desk:
        row = await ended(outbox_fixture, RecipientState.REFUSED, name="Lift")
        assert [each["name"] for each in await desk.list_rows(RowFilter(), 1)] == ["Lift"]
        assert await desk.find_row(row.id)
        assert (await desk.recipients(row.id, 5))[1] == 1
        assert await desk.recent_changes(RowFilter(), [])
        assert await desk.read_health()
        assert await desk.count_by_status()
        assert await desk.count_by_status(within="1ms")
        assert await desk.resend(await desk.preview(RowFilter()), "r") == [row.id]
        assert await desk.retract(await desk.preview(RowFilter()), "r") == [row.id]
        trial = await desk.insert_test("default-in-app", uuid4(), None, "{}")
        assert trial is not None
        assert await desk.test_progress(trial)
        await outbox_fixture.change(trial.id, notification_status="SENT")
        with pytest.raises(InsufficientPrivilege):
            await desk.remove_test(trial)
        assert json.loads((await outbox_fixture.rows("select detail from dispatcher.action"))[0][0])["reason"] == "r"


async def test_the_role_of_run_may_look_and_change_nothing(outbox_fixture: OutboxFixture):
    async with as_role(outbox_fixture, "desk run", operator=False) as desk:
        row = await ended(outbox_fixture, RecipientState.REFUSED, name="Lift")
        assert [each["name"] for each in await desk.list_rows(RowFilter(), 1)] == [None]
        assert await desk.find_row(row.id)
        assert (await desk.recipients(row.id, 5))[1] == 1
        assert await desk.recent_changes(RowFilter(), [])
        assert await desk.read_health()
        assert await desk.count_by_status()
        with pytest.raises(InsufficientPrivilege):
            await desk.resend(await desk.preview(RowFilter()))
        assert await outbox_fixture.status(row.id) == "FAILED", "no change without its entry in the books"


@pytest.mark.parametrize(("damage", "said"), [
    ("drop schema dispatcher cascade", "run: dispatcher db install"),
    ("alter table notify.ent_notification rename to gone", "does not exist or is no outbox"),
])  # fmt: skip
async def test_what_is_missing_is_named(outbox_fixture: OutboxFixture, damage: str, said: str):
    await outbox_fixture.rows(damage)
    with pytest.raises(ConfigurationError, match=said):
        await desk_on(outbox_fixture).prepare()


async def test_an_outbox_without_names_and_reasons_will_do(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows(
        "alter table notify.ent_notification drop column name cascade, drop column retraction_reason"
    )
    relations = TableNames(RELATIONS.outbox, RELATIONS.workflow)
    desk = OperatorQueries(lambda: borrow_connection(outbox_fixture.pool), relations)
    await desk.prepare()
    trial = await desk.insert_test("default-in-app", uuid4(), None, "{}")
    assert trial is not None
    assert [row["name"] for row in await desk.list_rows(RowFilter(), 5)] == [None]
    assert await desk.retract(await desk.preview(RowFilter()), "over") == [trial.id]
