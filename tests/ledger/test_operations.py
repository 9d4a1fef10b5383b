"""What an operator reads and changes: the update an application would write, its entry in the books, nothing else."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from ledger_books import RELATIONS, Books, calls_of, ids_of
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

from dispatcher.cli.change import refusal
from dispatcher.cli.next_step import next_step
from dispatcher.cli.rows import Watch
from dispatcher.install import render_grants
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import Notification, State
from dispatcher.postgres import operator_queries
from dispatcher.postgres.operator_queries import BEING_RETRACTED, Filters, Operations
from dispatcher.postgres.pool import using
from dispatcher.postgres.statements import Relations, query

HOSTILE = "\x1b[31mred\x1b[0m [bold]loud[/bold] \x07\n\u202eevil"


def desk_on(books: Books) -> Operations:
    """Return the operations on a pool, whose sessions say the opposite of what operations need."""
    return Operations(lambda: using(books.pool), RELATIONS, person="ana@desk")


@pytest.fixture
async def desk(books: Books) -> Operations:
    desk = desk_on(books)
    await desk.prepare()
    return desk


async def ended(books: Books, state: State, wait: timedelta | None = None, **columns: Any) -> Notification:
    """Send a notification, and conclude it."""
    row = await books.held(**columns)
    await books.settle(row, state, wait)
    return row


async def actions(books: Books) -> list[Any]:
    return await books.rows("select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id")


class TestSendingAgain:
    async def test_a_row_that_was_sent_again_since_the_preview_is_left_alone(self, books: Books, desk: Operations):
        row = await ended(books, State.ACCEPTED)
        preview = await desk.preview(Filters(ids=(row.id,)))
        assert await desk.resend(preview) == [row.id]
        await books.claim()
        [again] = await books.take(row.id)
        await books.settle(again, State.ACCEPTED)
        assert await books.status(row.id) == "SENT", "as the preview showed it"
        assert await desk.resend(preview) == []

    async def test_a_dead_letter_is_a_new_sending_to_everybody(self, books: Books, desk: Operations):
        row = await ended(books, State.REFUSED)
        [seen] = await desk.preview(Filters(dead=True))
        assert (seen.id, seen.status, seen.accepted, seen.unknown) == (row.id, "FAILED", 0, 0)
        assert await desk.resend([seen], "Novu is back") == [row.id]
        assert await books.status(row.id) == "PENDING"
        assert ids_of(await books.claim()) == [row.id]
        assert (await books.head(row.id))["generation"] == 2

    async def test_every_batch_is_in_the_books_with_who_and_what_was(self, books: Books, desk: Operations):
        failed, sent = await ended(books, State.REFUSED), await ended(books, State.ACCEPTED)
        await desk.resend(await desk.preview(Filters(ids=(failed.id, sent.id))), "by mistake")
        [[actor, action, ids, detail]] = await actions(books)
        assert (actor, action, sorted(ids)) == ("postgres (ana@desk)", "retry", sorted([failed.id, sent.id]))
        assert detail == {"was": {"FAILED": [failed.id], "SENT": [sent.id]}, "reason": "by mistake"}
        assert await desk.resend([]) == []
        assert len(await actions(books)) == 1, "what changes nothing is no action"

    async def test_a_row_that_changed_since_the_preview_is_left_alone(self, books: Books, desk: Operations):
        row = await ended(books, State.REFUSED)
        seen = await desk.preview(Filters(ids=(row.id,)))
        await books.change(row.id, notification_status="SENT")
        assert await desk.resend(seen) == []
        assert await books.status(row.id) == "SENT"
        assert await actions(books) == []

    async def test_a_locked_row_is_left_out_and_the_others_are_done(self, books: Books, desk: Operations):
        first, second = await ended(books, State.REFUSED), await ended(books, State.REFUSED)
        seen = await desk.preview(Filters(statuses=("FAILED",)))
        async with books.owner.transaction():
            await books.rows("select from notify.ent_notification where id = %s for update", first.id)
            assert await desk.resend(seen) == [second.id]
        assert await desk.resend(seen) == [first.id]

    async def test_a_retraction_that_nobody_noticed_is_not_swept_away(self, books: Books, desk: Operations):
        row = await ended(books, State.ACCEPTED)
        await books.change(row.id, notification_status="RETRACTED")
        [seen] = await desk.preview(Filters(ids=(row.id,)))
        assert not seen.retraction_noticed
        assert refusal("retry", seen) == BEING_RETRACTED
        assert await desk.resend([seen]) == []
        await books.outbox.notice(10)
        assert await desk.resend(await desk.preview(Filters(ids=(row.id,)))) == [row.id]

    async def test_it_rings_as_an_applications_update_does(self, books: Books, desk: Operations):
        row = await ended(books, State.REFUSED)
        async with await psycopg.AsyncConnection.connect(books.url, autocommit=True) as listener:
            await listener.execute("listen dispatcher")
            assert await desk.resend(await desk.preview(Filters(ids=(row.id,)))) == [row.id]
            heard = [notify.channel async for notify in listener.notifies(timeout=20, stop_after=1)]
        assert heard == ["dispatcher"]

    async def test_the_preview_knows_who_gets_it_again_and_what_waits(self, books: Books, desk: Operations):
        sent = await ended(books, State.ACCEPTED, recipients=[uuid4(), uuid4()])
        unknown = await ended(books, State.UNKNOWN, timedelta(hours=1))
        await books.change(unknown.id, deactivated=True)
        first, second = await desk.preview(Filters())
        assert (first.id, first.recipients, first.accepted, first.retry_waits, first.closed) == (
            sent.id,
            2,
            2,
            False,
            False,
        )
        assert (second.id, second.unknown, second.retry_waits, second.closed) == (unknown.id, 1, True, True)


class TestTakingBack:
    async def test_what_was_sent_is_taken_back_and_what_was_not_never_is_sent(self, books: Books, desk: Operations):
        sent = await ended(books, State.ACCEPTED)
        waiting = await books.notify()
        held = await books.notify()
        assert await desk.retract(await desk.preview(Filters()), "wrong lift") == [sent.id, waiting, held]
        assert ids_of(await books.claim()) == []
        assert await books.outbox.notice(10) == {sent.id: 1, waiting: 0, held: 0}
        reasons = "select distinct retraction_reason, retracted_at is not null from notify.ent_notification"
        assert await books.rows(reasons) == [("wrong lift", True)]

    async def test_a_row_in_work_is_retracted_and_its_run_sends_nothing_more(self, books: Books, desk: Operations):
        row = await books.held()
        assert await desk.retract(await desk.preview(Filters(ids=(row.id,)))) == [row.id]
        assert await books.outbox.sending(calls_of(row)) == set()
        await books.outbox.hand_back([row])
        assert await books.status(row.id) == "RETRACTED"


class TestLooking:
    async def test_filters_find_what_they_say(self, books: Books, desk: Operations):
        ours = uuid4()
        failed = await ended(books, State.REFUSED, enterprise_id=ours)
        sent = await ended(books, State.ACCEPTED)
        old = await books.notify(created_at="2020-01-01", notification_workflow_id=await books.workflow("default-sms"))
        partial = await books.notify(notification_status="FAILED", error_details='{"outcome": "PARTIAL"}')
        wanted: dict[str, tuple[Filters, list[int]]] = {
            "nothing": (Filters(), [partial, old, sent.id, failed.id]),
            "status": (Filters(statuses=("SENT",)), [sent.id]),
            "PARTIAL": (Filters(statuses=("PARTIAL",)), [partial]),
            "enterprise": (Filters(enterprise=str(ours)), [failed.id]),
            "workflow": (Filters(workflow="default-sms"), [old]),
            "error": (Filters(error="http 503"), [failed.id]),
            "no wildcard": (Filters(error="HTTP%503"), []),
            "since": (Filters(since=timedelta(hours=1)), [partial, sent.id, failed.id]),
            "until": (Filters(until=timedelta(hours=1)), [old]),
            "dead": (Filters(dead=True), [failed.id]),
            "ids": (Filters(ids=(old, sent.id)), [old, sent.id]),
            "both": (Filters(statuses=("SENT", "FAILED"), enterprise=str(ours)), [failed.id]),
        }
        found = {name: [row["id"] for row in await desk.page(filters, 10)] for name, (filters, _) in wanted.items()}
        assert found == {name: ids for name, (_, ids) in wanted.items()}

    async def test_pages_follow_each_other_without_gap_and_overlap(self, books: Books, desk: Operations):
        ids = await books.many(7)
        first = [row["id"] for row in await desk.page(Filters(), 3)]
        await books.many(2)
        rest = [row["id"] for row in await desk.page(Filters(), 10, first[-1])]
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
    async def test_a_row_is_shown_whatever_it_holds(self, books: Books, desk: Operations, odd: dict[str, Any]):
        row = await books.notify(**odd)
        [listed] = await desk.page(Filters(), 10)
        shown = await desk.show(row)
        assert shown is not None
        assert listed["id"] == shown["id"] == row
        assert [seen.id for seen in await desk.preview(Filters())] == [row]
        assert [each["id"] for each in await desk.changes(Filters(), [])] == [row]
        assert await desk.counts()

    async def test_show_knows_recipients_and_what_holds_the_row(self, books: Books, desk: Operations):
        row = await books.held(recipients=[uuid4(), uuid4()])
        await books.outbox.sending(calls_of(row))
        shown = await desk.show(row.id)
        assert shown is not None
        assert (shown["status"], shown["held"], shown["lease_owner"]) == ("PROCESSING", True, "here")
        assert shown["temporal_workflow_id"] == (await books.head(row.id))["workflow_id"]
        recipients, total = await desk.recipients(row.id, 1)
        assert ([each["state"] for each in recipients], total) == (["sending"], 2)
        assert await desk.show(10**12) is None

    async def test_what_happens_next_is_said_of_every_row(self, books: Books, desk: Operations):
        dead, waiting = await ended(books, State.REFUSED), await ended(books, State.REFUSED, timedelta(hours=1))
        sent, taken_back, going = [await ended(books, State.ACCEPTED) for _ in range(3)]
        held, lost = await books.held(), await books.held()
        await books.change(taken_back.id, notification_status="RETRACTED")
        await books.outbox.notice(10)
        await books.expire(lost.id)
        await books.change(going.id, notification_status="RETRACTED")
        sentences = {
            await books.notify(): "no dispatcher is running",
            await books.notify(publish_status="DRAFT"): "until it is published",
            await books.notify(deactivated=True): "deactivated",
            await books.notify(scheduled_for="2999-01-01"): "it becomes due at 2999-01-01 00:00:00 UTC, in",
            await books.notify(scheduled_for="infinity"): "it becomes due at infinity",
            await books.notify(notification_status="PROCESSING"): "nobody holds it",
            await books.notify(notification_status="FAILED"): "sends it again to all recipients",
            dead.id: "a dead letter since",
            waiting.id: "tried again at",
            sent.id: "Novu took it",
            held.id: "here works on it",
            lost.id: "its lease ran out",
            going.id: "notices the retraction",
            taken_back.id: "1 recipients are still being taken back",
        }
        said = {row: next_step(found) for row in sentences if (found := await desk.show(row))}
        assert {row: sentence for row, sentence in sentences.items() if sentence not in said[row]} == {}, said

    async def test_counts_are_exact_or_say_that_they_are_not(self, books: Books, desk: Operations):
        await ended(books, State.ACCEPTED)
        await books.notify(created_at="2020-01-01", scheduled_for="2999-01-01")
        await books.notify(publish_status="DRAFT")
        await books.notify(created_at="2020-01-01", scheduled_for="2020-01-02")
        await books.notify(scheduled_for="-infinity")
        found = await desk.counts()
        assert (found["counts"], found["counts_exact"]) == ({"SENT": 1, "PENDING": 4}, True)
        assert (found["due"], found["scheduled"]) == (2, 1)
        assert found["oldest_due_seconds"] > 86_400

    async def test_a_table_too_large_to_be_counted_is_estimated(self, books: Books, desk: Operations):
        await books.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', (case when mod(i, 4) = 0 then 'FAILED' else 'SENT' end)"
            "::shared_types.notification_status, '{}', '{}' from generate_series(1, 20000) i"
        )
        await books.many(3)
        await books.rows("analyze notify.ent_notification")
        found = await desk.counts(within="1ms")
        assert not found["counts_exact"]
        assert found["due"] == 3
        assert found["counts"]["SENT"] == pytest.approx(15_000, rel=0.2)
        assert found["counts"]["FAILED"] == pytest.approx(5_000, rel=0.2)

    async def test_health_knows_nodes_triggers_and_what_waits(self, books: Books, desk: Operations):
        await books.outbox.beat(role="all", host="h", version="1", mode="EVENT")
        await (await books.node("gone")).beat(role="all", host="h", version="1", mode="EVENT")
        await books.rows("update dispatcher.node set seen_at = seen_at - interval '1 h' where id = 'gone'")
        row = await books.held()
        await books.expire(row.id)
        await books.notify(notification_status="PROCESSING")
        await books.rows("alter table notify.ent_notification disable trigger dispatcher_update")
        found = await desk.health()
        assert {node["id"]: node["alive"] for node in found["nodes"]} == {"here": True, "gone": False}
        assert found["triggers"] == {"dispatcher_insert": True, "dispatcher_update": False}
        assert (found["leases_run_out"], found["unheld"]) == (1, 1)
        await books.rows("drop trigger dispatcher_insert on notify.ent_notification")
        assert "dispatcher_insert" not in (await desk.health())["triggers"]


class TestWatching:
    async def test_each_change_is_told_once_with_what_it_was(self, books: Books, desk: Operations):
        old = await ended(books, State.ACCEPTED)
        watch = Watch()

        async def news() -> list[tuple[int, str | None, str]]:
            rows = await desk.changes(Filters(), watch.open)
            return [(row["id"], was, row["status"]) for row, was in watch.news(rows)]

        assert await news() == []
        row = await books.notify()
        assert await news() == [(row, None, "PENDING")]
        await books.claim()
        [held] = await books.take(row)
        assert await news() == [(row, "PENDING", "PROCESSING")]
        await books.settle(held, State.ACCEPTED)
        assert await news() == [(row, "PROCESSING", "SENT")]
        await books.change(old.id, notification_status="RETRACTED")
        assert await news() == [(old.id, "SENT", "RETRACTED")]
        assert await news() == []

    async def test_old_rows_that_come_into_sight_are_no_news(
        self, books: Books, desk: Operations, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.LOOKED_AT", 2)
        old, *_ = await books.many(4)
        watch = Watch()
        watch.news(await desk.changes(Filters(), []))
        await books.rows("delete from notify.ent_notification where id = (select max(id) from notify.ent_notification)")
        assert watch.news(await desk.changes(Filters(), watch.open)) == []
        await books.change(old, notification_status="PROCESSING")
        await books.rows("insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at,"
                         " claimed_at) values (%s, 'b', 1, 1, now(), clock_timestamp())", old)  # fmt: skip
        assert [row["id"] for row, _ in watch.news(await desk.changes(Filters(), watch.open))] == [old]

    async def test_a_row_that_leaves_the_sight_by_ending_is_told(
        self, books: Books, desk: Operations, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("dispatcher.postgres.operator_queries.LOOKED_AT", 1)
        held, _ = await books.held(), await books.notify()
        watch = Watch()
        watch.news(await desk.changes(Filters(), []))
        await books.settle(held, State.ACCEPTED)
        told = watch.news(await desk.changes(Filters(), watch.open))
        assert [(row["id"], was, row["status"]) for row, was in told] == [(held.id, "PROCESSING", "SENT")]

    async def test_a_look_costs_the_same_in_a_large_table(self, books: Books, desk: Operations):
        await books.rows(
            "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
            " select 'n ' || i, 'PUBLISH', 'SENT', '{}', '{}' from generate_series(1, 20000) i"
        )
        await books.rows(
            "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at,"
            " settled_at) select id, 'b', 1, 1, now(), now(), now() from notify.ent_notification"
        )
        await books.rows("vacuum analyze notify.ent_notification, dispatcher.delivery")
        parts = vars(Operations)["_parts"](desk, {"matching": Filters().condition()})
        looked = query("operator/recent_changes", **parts).as_bytes()
        async with books.pool.connection() as connection:
            plan = await connection.execute(
                b"explain (analyze, buffers, format json) " + looked, {"seen": [], "limit": operator_queries.LOOKED_AT}
            )
            [[[explained]]] = await plan.fetchall()
        read = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
        assert explained["Plan"]["Actual Rows"] <= 1000
        assert read < 5_000, "a few blocks for each of them"


class TestTrying:
    async def test_a_test_is_a_row_as_an_application_writes_it(self, books: Books, desk: Operations):
        recipient = uuid4()
        trial = await desk.try_out("default-in-app", recipient, None, '{"title": "t"}')
        assert trial is not None
        [held] = await books.take(*ids_of(await books.claim()))
        assert (held.id, [each.id for each in held.recipients]) == (trial.id, [str(recipient)])
        at = await desk.follow(trial)
        assert at is not None
        assert (at["status"], at["called"], at["settled"]) == ("PROCESSING", None, None)
        assert not await desk.remove(trial), "nothing is deleted under a run's hands"
        await books.settle(held, State.ACCEPTED)
        at = await desk.follow(trial)
        assert at is not None
        assert 0 <= at["called"] <= at["settled"]
        assert await desk.remove(trial)
        assert await desk.follow(trial) is None
        assert [action for _, action, _, _ in await actions(books)] == ["send-test", "send-test cleanup"]

    async def test_a_workflow_of_one_enterprise_decides_whose_it_is(self, books: Books, desk: Operations):
        ours = uuid4()
        key = "update notify.ent_notification_workflow set enterprise_id = %s where workflow_key = 'default-sms'"
        await books.rows(key, ours)
        trial = await desk.try_out("default-sms", uuid4(), None, "{}")
        assert trial is not None
        assert trial.enterprise == str(ours)
        assert await desk.try_out("nope", uuid4(), None, "{}") is None
        assert "default-sms" in await desk.workflow_keys()


@asynccontextmanager
async def as_role(books: Books, role: str, *, operator: bool) -> AsyncGenerator[Operations]:
    """Hand out the operations as a role sees them that has the grants, and nothing else."""
    name = sql.Identifier(role)
    await books.owner.execute(sql.SQL("create role {} login").format(name))
    await books.owner.execute(render_grants("notify.ent_notification", role, operator=operator).encode())
    try:
        url = make_conninfo(books.url, user=role)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

            @asynccontextmanager
            async def lend() -> AsyncGenerator[Any]:
                yield connection

            desk = Operations(lend, RELATIONS)
            await desk.prepare()
            yield desk
    finally:
        await books.owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


async def test_the_operators_grants_are_enough_and_delete_nothing(books: Books):
    async with as_role(books, "desk 'op'", operator=True) as desk:
        row = await ended(books, State.REFUSED, name="Lift")
        assert [each["name"] for each in await desk.page(Filters(), 1)] == ["Lift"]
        assert await desk.show(row.id)
        assert (await desk.recipients(row.id, 5))[1] == 1
        assert await desk.changes(Filters(), [])
        assert await desk.health()
        assert await desk.counts()
        assert await desk.counts(within="1ms")
        assert await desk.resend(await desk.preview(Filters()), "r") == [row.id]
        assert await desk.retract(await desk.preview(Filters()), "r") == [row.id]
        trial = await desk.try_out("default-in-app", uuid4(), None, "{}")
        assert trial is not None
        assert await desk.follow(trial)
        await books.change(trial.id, notification_status="SENT")
        with pytest.raises(InsufficientPrivilege):
            await desk.remove(trial)
        assert json.loads((await books.rows("select detail from dispatcher.action"))[0][0])["reason"] == "r"


async def test_the_role_of_run_may_look_and_change_nothing(books: Books):
    async with as_role(books, "desk run", operator=False) as desk:
        row = await ended(books, State.REFUSED, name="Lift")
        assert [each["name"] for each in await desk.page(Filters(), 1)] == [None]
        assert await desk.show(row.id)
        assert (await desk.recipients(row.id, 5))[1] == 1
        assert await desk.changes(Filters(), [])
        assert await desk.health()
        assert await desk.counts()
        with pytest.raises(InsufficientPrivilege):
            await desk.resend(await desk.preview(Filters()))
        assert await books.status(row.id) == "FAILED", "no change without its entry in the books"


@pytest.mark.parametrize(("damage", "said"), [
    ("drop schema dispatcher cascade", "run: dispatcher db install"),
    ("alter table notify.ent_notification rename to gone", "does not exist or is no outbox"),
])  # fmt: skip
async def test_what_is_missing_is_named(books: Books, damage: str, said: str):
    await books.rows(damage)
    with pytest.raises(ConfigurationError, match=said):
        await desk_on(books).prepare()


async def test_an_outbox_without_names_and_reasons_will_do(books: Books):
    await books.rows("alter table notify.ent_notification drop column name cascade, drop column retraction_reason")
    relations = Relations(RELATIONS.outbox, RELATIONS.workflow)
    desk = Operations(lambda: using(books.pool), relations)
    await desk.prepare()
    trial = await desk.try_out("default-in-app", uuid4(), None, "{}")
    assert trial is not None
    assert [row["name"] for row in await desk.page(Filters(), 5)] == [None]
    assert await desk.retract(await desk.preview(Filters()), "over") == [trial.id]
