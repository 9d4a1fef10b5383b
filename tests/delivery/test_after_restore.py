"""Rows whose call the database forgot, because it came back without its newest commits."""

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.workflow_contract import THROTTLED
from tests.support.activity_runs import run_activity
from tests.support.outbox_fixture import WORKFLOW, OutboxFixture


async def old_rows(fixture: OutboxFixture, count: int) -> list[int]:
    """Insert rows that were due ten minutes ago."""
    ids = await fixture.many(count)
    await fixture.rows("update notify.ent_notification set created_at = created_at - interval '10 minutes'")
    return ids


async def forget_everything(fixture: OutboxFixture) -> None:
    """Take the database back to the moment before the claims."""
    await fixture.rows("truncate dispatcher.delivery, dispatcher.recipient")
    await fixture.rows(
        "update notify.ent_notification set notification_status = 'PENDING', error_details = null,"
        " transaction_id = null, processed_at = null"
    )


async def noticed(fixture: OutboxFixture, seconds_ago: int) -> None:
    await fixture.rows(
        "update dispatcher.installation set restored_at = clock_timestamp() - make_interval(secs => %s)", seconds_ago
    )


async def requests(novu: FakeNovu, method: str) -> int:
    return sum(request.method == method for request in await novu.requests())


async def statuses(fixture: OutboxFixture, ids: list[int]) -> set[str]:
    return {await fixture.status(row) for row in ids}


async def test_f183_forgotten_calls_are_found_however_the_claim_cuts_the_batches(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    ids = await old_rows(outbox_fixture, 25)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids) == ""
    await novu.wait_idle()
    await forget_everything(outbox_fixture)
    await noticed(outbox_fixture, 60)
    await outbox_fixture.claim(batch_size=12)  # other members, so another key
    for part in (ids[:12], ids[12:24], ids[24:]):
        assert await run_activity(outbox_fixture, activities, part) == ""
    assert await statuses(outbox_fixture, ids) == {"SENT"}
    summary = await novu.summary()
    assert (summary.effects, summary.duplicate_pairs, await requests(novu, "POST")) == (25, 0, 1)
    entries = [entry for row in ids for entry in await outbox_fixture.entries(row)]
    assert {(entry["state"], entry["outcome"], entry["attempts"]) for entry in entries} == {("accepted", "found", 1)}
    effects = await novu.effects()
    assert {entry["transaction_id"] for entry in entries} == {effect.transaction_id for effect in effects}


async def test_f183_row_that_was_never_called_is_sent_after_its_look_up(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    ids = await old_rows(outbox_fixture, 12)
    await noticed(outbox_fixture, 60)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids) == ""
    assert await statuses(outbox_fixture, ids) == {"SENT"}
    assert (await requests(novu, "GET"), await requests(novu, "POST")) == (12, 1 + 1), "with one question about keys"


async def test_f183_call_of_another_process_may_still_be_open_or_invisible(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    ids = await old_rows(outbox_fixture, 1)
    await noticed(outbox_fixture, 50)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids) == THROTTLED
    await noticed(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, ids, local=True) == THROTTLED, "look-ups need the batch queue"
    assert (await requests(novu, "GET"), await novu.effects()) == (0, [])


async def test_f183_missing_run_proves_nothing_for_minutes_without_idempotency(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await novu.configure(idempotency=False)
    ids = await old_rows(outbox_fixture, 1)
    await noticed(outbox_fixture, 290)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids) == THROTTLED
    assert await novu.effects() == []
    await noticed(outbox_fixture, 300)
    assert await run_activity(outbox_fixture, activities, ids) == ""
    assert (await novu.summary()).effects == 1


async def test_f183_row_committed_after_the_restore_goes_out_at_once(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await noticed(outbox_fixture, 1)
    ids = await outbox_fixture.many(1)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids, local=True) == ""
    assert [request.method for request in await novu.requests()] == ["POST"]


async def test_f183_call_recorded_after_the_restore_is_treated_as_usual(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    await novu.add_fault("reset_after", workflow=WORKFLOW, times=1)
    ids = await old_rows(outbox_fixture, 1)
    await noticed(outbox_fixture, 60)
    await outbox_fixture.claim()
    await run_activity(outbox_fixture, activities, ids)
    looked_up = await requests(novu, "GET")
    assert await run_activity(outbox_fixture, activities, ids) == ""
    assert await requests(novu, "GET") == looked_up == 1, "the second call is a repetition under the same key"
    assert (await novu.summary()).duplicate_pairs == 0


async def test_f183_unknown_outcome_of_before_is_looked_up_instead_of_repeated(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu
):
    """The lost commits may have held another call, under another key."""
    await novu.add_fault("reset_after", workflow=WORKFLOW, times=1)
    ids = await old_rows(outbox_fixture, 1)
    await outbox_fixture.claim()
    await run_activity(outbox_fixture, activities, ids)
    await novu.wait_idle()
    await outbox_fixture.rows("update dispatcher.recipient set last_called_at = last_called_at - interval '2 minutes'")
    await noticed(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, ids) == ""
    [entry] = await outbox_fixture.entries(ids[0])
    assert (entry["outcome"], entry["attempts"]) == ("found", 1)
