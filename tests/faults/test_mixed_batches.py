"""Rows of many enterprises share workflows and calls: one that is slow or bad costs its neighbours next to nothing.

The twins of the tests of one enterprise in test_fairness.py and test_refused_calls.py.
"""

from uuid import UUID, uuid4

import pytest

from tests.faults.test_fairness import Rows, first_calls, holds, many, one_by_one, waits
from tests.faults.waits import effects_are_exactly, posts
from tests.support.bad_rows import BAD_ROWS, insert
from tests.support.stack import Stack
from tests.support.waits import eventually


async def each_of_its_own(stack: Stack, count: int) -> Rows:
    """Insert `count` rows of as many enterprises in one statement."""
    rows = await stack.rows(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
        " enterprise_id) select 'n ' || gen_random_uuid(), 'PUBLISH', %s, '{}', array[gen_random_uuid()],"
        " gen_random_uuid() from generate_series(1, %s)"
        " returning recipients[1]::text, extract(epoch from clock_timestamp())::float8",
        await stack.workflow(),
        count,
    )
    return dict(rows)


async def test_f96_slow_workflow_slows_no_batch_of_many_enterprises(stack: Stack):
    await stack.novu.add_workflow("slow")
    await stack.running()
    idle = await one_by_one(stack, 5, enterprise=uuid4())
    await stack.novu.add_fault("delay", workflow="slow", seconds=9, times=20)
    crowding = uuid4()
    await many(stack, 2_300, enterprise=crowding, workflow=await stack.workflow("slow"))

    async def full() -> bool:
        return await holds(stack, crowding) >= 2_000

    await eventually(full, "a node full of slow rows")
    beside = sorted([wait for _ in range(5) for wait in await waits(stack, await each_of_its_own(stack, 12))])
    assert await holds(stack, crowding) > 0
    assert beside[30] < 1.5 * idle[2] + 0.5, (idle, beside)
    assert beside[-1] < 5, beside
    await stack.all_sent(2_365)
    await effects_are_exactly(stack, 2_365)


async def test_f152_ten_enterprises_overtake_thousands_of_another(stack: Stack):
    await stack.running()
    crowd = await many(stack, 5_000, enterprise=uuid4())
    rows = await each_of_its_own(stack, 10)
    await waits(stack, rows)
    await stack.all_sent(5_010)
    calls = await first_calls(stack)
    last = max(calls[recipient] for recipient in rows)
    before = sum(calls[recipient] < last for recipient in crowd)
    assert before < 3_000, before
    await effects_are_exactly(stack, 5_010)


async def test_f115_poison_rows_do_not_slow_valid_ones_of_other_enterprises(stack: Stack):
    await stack.novu.add_workflow("inactive", active=False)
    await stack.running()
    alone = await waits(stack, await each_of_its_own(stack, 400))
    bad = [await insert(stack, columns) for columns, _ in BAD_ROWS.values() for _ in range(4)]
    among = await waits(stack, await each_of_its_own(stack, 400))
    assert set(await stack.final(*bad)) == {"FAILED"}
    await stack.all_sent(800)
    assert among[-8] < 2 * alone[-8] + 2, (alone[-8], among[-8])


@pytest.mark.parametrize(("kind", "status"), [("status", 422), ("cached_status", 400), ("status", 403)])
async def test_f225_poison_in_a_shared_call_blames_no_neighbour(stack: Stack, kind: str, status: int):
    """Each other enterprise's row is in at most two further calls, and its first attempt is its last."""
    culprit = uuid4()
    await stack.novu.add_fault(kind, status=status, message="bad member", recipient=str(culprit))
    good = await each_of_its_own(stack, 99)
    bad = await stack.notify(recipients=[culprit], enterprise_id=UUID(int=2**127))
    await stack.running(DISPATCHER_MAX_RUNS="1")
    await stack.all_sent(99)
    assert await stack.final(bad, within=60) == ["FAILED"]
    heads = await stack.rows(
        "select batch, attempts from dispatcher.delivery where notification_id <> %s group by 1, 2", bad
    )
    assert [(batch is not None, attempts) for batch, attempts in heads] == [(True, 1)], "one workflow, one attempt"
    calls = [call for call in await posts(stack) if {*call.subscribers} & good.keys()]
    assert max(sum(recipient in call.subscribers for call in calls) for recipient in good) <= 3
    assert len(calls) <= 1 + 10 + 10
    await effects_are_exactly(stack, 99)
