"""Changes by an operator: the update of an application, a row in dispatcher.action, and nothing else."""

from datetime import timedelta
from uuid import uuid4

import psycopg

from dispatcher.cli.change_output import obstacle_text
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.operator_decisions import RETRACTION_PENDING
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.row_filter import RowFilter
from tests.postgres.operator_rows import actions, ended
from tests.support.outbox_fixture import OutboxFixture, calls_of, ids_of


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
