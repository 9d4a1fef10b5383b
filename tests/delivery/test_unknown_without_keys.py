"""Calls with an unknown outcome at a Novu without idempotency: nobody is called again before Novu had time to show the
run."""

from typing import Any

import pytest

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.workflow_contract import THROTTLED, UNSETTLED, Batch
from tests.support.activity_runs import run_activity
from tests.support.outbox_fixture import OutboxFixture

UNREADABLE: dict[str, dict[str, Any]] = {
    "cut off": {"kind": "malformed"},
    "no envelope": {"kind": "body", "body": '{"acknowledged": true, "status": "processed"}'},
    "another shape": {"kind": "body", "body": '{"data": {"items": [1, 2]}}'},
    "one result in a list": {"kind": "body", "body": '{"data": [{"acknowledged": true, "status": "processed"}]}'},
    "a page": {"kind": "body", "body": "<html>Thank you</html>"},
    "empty": {"kind": "body"},
    "a lost answer": {"kind": "reset_after"},
}
"""Answers to a call that Novu executed, none of which tells so."""


@pytest.fixture
async def activities(activities: DeliveryActivities, novu: FakeNovu) -> DeliveryActivities:
    """The activities of a process that has just started: no answer has told whether Novu honours keys."""
    await novu.configure(idempotency=False, worker_paused=True)
    return activities


async def claimed(fixture: OutboxFixture, rows: int) -> Batch:
    """Return one batch of so many rows; more than ten share a call."""
    ids = await fixture.many(rows)
    await fixture.claim()
    return Batch(ids)


async def age(fixture: OutboxFixture, seconds: int) -> None:
    """Let the last calls be so much older."""
    await fixture.rows(
        "update dispatcher.recipient set last_called_at = last_called_at - make_interval(secs => %s),"
        " first_called_at = first_called_at - make_interval(secs => %s)",
        seconds,
        seconds,
    )


async def triggers(novu: FakeNovu) -> int:
    """Return the number of calls, without the empty one that asks whether Novu honours keys."""
    return sum(request.method == "POST" and bool(request.subscribers) for request in await novu.requests())


async def statuses(fixture: OutboxFixture, batch: Batch) -> set[str]:
    return {await fixture.status(row) for row in batch.notification_ids}


@pytest.mark.parametrize("rows", [1, 12])
@pytest.mark.parametrize("answer", UNREADABLE)
async def test_f174_unreadable_answer_is_not_called_again_but_found(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, answer: str, rows: int
):
    await novu.add_fault(path=path_of(rows), times=1, **UNREADABLE[answer])
    batch = await claimed(outbox_fixture, rows)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == UNSETTLED
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == THROTTLED, "too early to ask"
    await age(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == THROTTLED, (
        "Novu shows no run, which proves nothing yet"
    )
    assert await statuses(outbox_fixture, batch) == {"PROCESSING"}
    await novu.configure(worker_paused=False)
    await novu.wait_idle()
    await age(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == ""
    assert await statuses(outbox_fixture, batch) == {"SENT"}
    assert await triggers(novu) == 1
    summary = await novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (rows, 0)


@pytest.mark.parametrize("rows", [1, 12])
async def test_f190_executed_call_that_a_router_answers_with_503_is_not_made_again(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, rows: int
):
    await novu.configure(worker_paused=False)
    await novu.add_fault("html_after", path=path_of(rows), status=503, times=1)
    batch = await claimed(outbox_fixture, rows)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == UNSETTLED
    await novu.wait_idle()
    await age(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == ""
    assert await statuses(outbox_fixture, batch) == {"SENT"}
    assert await triggers(novu) == 1
    summary = await novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (rows, 0)


@pytest.mark.parametrize("rows", [1, 12])
async def test_f174_call_that_had_no_effect_is_made_again_after_the_look_ups(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, rows: int
):
    await novu.configure(worker_paused=False)
    await novu.add_fault("reset_before", path=path_of(rows), times=1)
    batch = await claimed(outbox_fixture, rows)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == UNSETTLED
    for _ in range(4):
        await age(outbox_fixture, 60)
        assert await run_activity(outbox_fixture, activities, batch.notification_ids) == THROTTLED
    await age(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, batch.notification_ids) == ""
    assert await statuses(outbox_fixture, batch) == {"SENT"}
    assert await triggers(novu) == 2
    assert (await novu.summary()).effects == rows


def path_of(rows: int) -> str:
    """Return the path of the one call for so many rows."""
    return "/v1/events/trigger" if rows == 1 else "/v1/events/trigger/bulk"
