"""The reads of an operator: lists, single rows, counts and health."""

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

from dispatcher.cli.next_step import next_step
from dispatcher.decisions.cancellation import apply_cancel_result, classify_runs
from dispatcher.install import render_grants
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import borrow_connection
from dispatcher.postgres.row_filter import RowFilter
from dispatcher.postgres.statements import TableNames
from tests.postgres.operator_rows import ended, queries_on
from tests.support.outbox_fixture import RELATIONS, OutboxFixture, calls_of

HOSTILE = "\x1b[31mred\x1b[0m [bold]loud[/bold] \x07\n\u202eevil"


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

    async def test_f173_show_says_that_novu_has_not_run_a_retracted_trigger_yet(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        row = await ended(outbox_fixture, RecipientState.ACCEPTED)
        await outbox_fixture.change(row.id, notification_status="RETRACTED")
        await outbox_fixture.outbox.detect_retracted(10)
        [cancel] = await outbox_fixture.outbox.acquire_cancels(1, timedelta(minutes=1))
        answer = classify_runs(200, {}, b'{"data": []}')
        apply_cancel_result(cancel, answer, timedelta(hours=6))
        await outbox_fixture.outbox.record_cancels([cancel])
        shown = await queries.find_row(row.id)
        assert shown is not None
        assert next_step(shown) == "triggers of 1 recipients are still being cancelled at Novu: Novu has not run it yet"

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
        assert await outbox_fixture.status(row.id) == "FAILED", "no change without its row in dispatcher.action"


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
