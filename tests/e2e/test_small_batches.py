"""Rows that gather while a run is in flight share a workflow on the first-try queue, as quick as a single row."""

import time
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

from temporalio.client import Client

from tests.faults.waits import effects_are_exactly, posts
from tests.support.stack import Stack
from tests.support.waits import eventually


async def small_batch(stack: Stack, count: int, **first: Any) -> list[int]:
    """Insert `count` rows of as many enterprises in one transaction, the first with these columns; return their ids."""
    async with stack.connection.transaction():
        rows = [await stack.notify(enterprise_id=uuid4(), **first)]
        return [*rows, *[await stack.notify(enterprise_id=uuid4()) for _ in range(count - 1)]]


async def workflows(stack: Stack) -> list[str]:
    """Return the ids of the workflows that carry rows."""
    return [each for (each,) in await stack.rows("select distinct workflow_id from dispatcher.delivery")]


async def activities_of(stack: Stack, workflow_id: str) -> Counter[str]:
    """Return the markers of local activities and the regular activities of a workflow that ends."""
    client = await Client.connect(stack.temporal_address)
    workflow = client.get_workflow_handle(workflow_id)
    await workflow.result()
    history = await workflow.fetch_history()
    found = Counter[str]()
    for event in history.events:
        found["local"] += event.HasField("marker_recorded_event_attributes")
        found["regular"] += event.HasField("activity_task_scheduled_event_attributes")
    return found


async def test_small_batch_is_one_local_activity(stack: Stack):
    await stack.running()
    rows = await small_batch(stack, 8)
    assert await stack.final(*rows) == ["SENT"] * 8
    [workflow_id] = await workflows(stack)
    assert await activities_of(stack, workflow_id) == Counter(local=1, regular=0)
    await effects_are_exactly(stack, 8)


async def test_slow_call_of_a_small_batch_delays_only_its_own_row(stack: Stack):
    await stack.running()
    slow = uuid4()
    await stack.novu.add_fault("delay", recipient=str(slow), times=1, seconds=3)
    rows = await small_batch(stack, 8, recipients=[slow])
    assert await stack.final(*rows[1:], within=2) == ["SENT"] * 7
    assert await stack.status(rows[0]) == "PROCESSING"
    assert await stack.final(rows[0]) == ["SENT"]
    [workflow_id] = await workflows(stack)
    assert await activities_of(stack, workflow_id) == Counter(local=1, regular=0)
    await effects_are_exactly(stack, 8)


async def test_poison_row_of_a_small_batch_fails_alone_in_the_first_try(stack: Stack):
    await stack.running()
    culprit = uuid4()
    await stack.novu.add_fault("status", status=422, message="bad member", recipient=str(culprit))
    rows = await small_batch(stack, 20, recipients=[culprit])
    assert await stack.final(*rows) == ["FAILED"] + ["SENT"] * 19
    [workflow_id] = await workflows(stack)
    assert await activities_of(stack, workflow_id) == Counter(local=1, regular=0)
    assert len(await posts(stack)) <= 1 + 4 + 5 + 1
    await effects_are_exactly(stack, 19)


async def test_f226_local_try_goes_on_in_the_batch_queue_before_its_time_is_over(stack: Stack):
    """A part of a refused call is slow, so that no time is left to split another part in the local activity."""
    await stack.running()
    culprit, slow = uuid4(), uuid4()
    await stack.novu.add_fault("delay", recipient=str(slow), nth=2, seconds=2.5)
    await stack.novu.add_fault("status", status=422, message="bad member", recipient=str(culprit))
    async with stack.connection.transaction():
        rows = [await stack.notify(recipients=[culprit], enterprise_id=UUID(int=2**128 - 1))]
        rows += [await stack.notify(enterprise_id=uuid4()) for _ in range(38)]
        rows += [await stack.notify(recipients=[slow], enterprise_id=UUID(int=1))]
    began = time.monotonic()
    assert await stack.final(*rows) == ["FAILED"] + ["SENT"] * 39
    assert time.monotonic() - began < 7, "nothing waits for the time-out"
    [workflow_id] = await workflows(stack)
    assert await activities_of(stack, workflow_id) == Counter(local=1, regular=1)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    assert "TIMEOUT" not in await history_text(stack, workflow_id)
    await effects_are_exactly(stack, 39)


async def history_text(stack: Stack, workflow_id: str) -> str:
    """Return a workflow's history as text."""
    client = await Client.connect(stack.temporal_address)
    return (await client.get_workflow_handle(workflow_id).fetch_history()).to_json()


async def test_row_of_many_recipients_begins_on_the_batch_queue(stack: Stack):
    await stack.running()
    row = await stack.notify(recipients=[uuid4() for _ in range(400)])
    assert await stack.final(row) == ["SENT"]
    [workflow_id] = await workflows(stack)
    assert await activities_of(stack, workflow_id) == Counter(local=0, regular=1)


async def test_f227_slow_novu_holds_up_no_other_rows_claim(stack: Stack):
    await stack.running()
    slow = uuid4()
    await stack.novu.add_fault("delay", recipient=str(slow), times=1, seconds=4)
    row = await stack.notify(recipients=[slow])

    async def called() -> bool:
        return await stack.status(row) == "PROCESSING"

    await eventually(called, "the slow row in work")
    began = time.monotonic()
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert time.monotonic() - began < 2
    assert await stack.status(row) == "PROCESSING"
    assert await stack.final(row) == ["SENT"]


async def test_rows_gather_while_a_run_is_in_flight(stack: Stack):
    await stack.running()
    slow = uuid4()
    await stack.novu.add_fault("delay", recipient=str(slow), times=1, seconds=1)
    rows = [await stack.notify(recipients=[slow])]

    async def called() -> bool:
        return await stack.status(rows[0]) == "PROCESSING"

    await eventually(called, "the slow row in work")
    rows += [await stack.notify() for _ in range(5)]
    assert await stack.final(*rows) == ["SENT"] * 6
    assert len(await workflows(stack)) <= 3, "at most two claims for five commits"
