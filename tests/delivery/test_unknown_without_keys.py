"""Calls with an unknown outcome at a Novu without idempotency: nobody is called again before Novu had time to show the
run."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.notification import RunLimits
from dispatcher.models.workflow_contract import THROTTLED, UNSETTLED, Batch
from dispatcher.novu.client import NovuClient
from tests.support.outbox_fixture import LEASE, OutboxFixture

LIMITS = RunLimits(LEASE, max_runs=8, retry_horizon=timedelta(hours=6))
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
async def activities(outbox_fixture: OutboxFixture, novu: FakeNovu) -> AsyncIterator[DeliveryActivities]:
    """The activities of a process that has just started: no answer has told whether Novu honours keys."""
    await novu.configure(idempotency=False, worker_paused=True)
    client = NovuClient(novu.api_key, novu.url)
    yield DeliveryActivities(outbox_fixture.outbox, client, LIMITS)
    await client.aclose()


async def claimed(fixture: OutboxFixture, rows: int) -> Batch:
    """Return one batch of so many rows; more than ten share a call."""
    ids = await fixture.many(rows)
    await fixture.claim(max_single=0)
    return Batch(ids)


async def deliver(fixture: OutboxFixture, activities: DeliveryActivities, batch: Batch) -> str:
    """Make one try; return the type of the error that it raised, if any."""
    environment = ActivityEnvironment()
    workflow_id = (await fixture.head(batch.notification_ids[0]))["workflow_id"]
    environment.info = replace(environment.info, workflow_id=workflow_id, is_local=False)
    try:
        await environment.run(activities.deliver, batch)
    except ApplicationError as error:
        return error.type or ""
    return ""


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
    assert await deliver(outbox_fixture, activities, batch) == UNSETTLED
    assert await deliver(outbox_fixture, activities, batch) == THROTTLED, "too early to ask"
    await age(outbox_fixture, 60)
    assert await deliver(outbox_fixture, activities, batch) == THROTTLED, "Novu shows no run, which proves nothing yet"
    assert await statuses(outbox_fixture, batch) == {"PROCESSING"}
    await novu.configure(worker_paused=False)
    await novu.wait_idle()
    await age(outbox_fixture, 60)
    assert await deliver(outbox_fixture, activities, batch) == ""
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
    assert await deliver(outbox_fixture, activities, batch) == UNSETTLED
    for _ in range(4):
        await age(outbox_fixture, 60)
        assert await deliver(outbox_fixture, activities, batch) == THROTTLED
    await age(outbox_fixture, 60)
    assert await deliver(outbox_fixture, activities, batch) == ""
    assert await statuses(outbox_fixture, batch) == {"SENT"}
    assert await triggers(novu) == 2
    assert (await novu.summary()).effects == rows


def path_of(rows: int) -> str:
    """Return the path of the one call for so many rows."""
    return "/v1/events/trigger" if rows == 1 else "/v1/events/trigger/bulk"
