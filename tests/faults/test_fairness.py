"""One enterprise, one Novu workflow, one huge or one poison row affects other rows little or not at all."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from temporalio.client import Client

from tests.faults.waits import effects_are_exactly
from tests.support.bad_rows import BAD_ROWS, insert
from tests.support.stack import Stack
from tests.support.waits import eventually

Rows = Mapping[str, float]
"""When each recipient's row was written, as epoch seconds."""


async def many(stack: Stack, count: int, **columns: Any) -> Rows:
    """Insert `count` rows of one recipient in one statement."""
    rows = await stack.rows(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
        " enterprise_id, scheduled_for) select 'n ' || gen_random_uuid(), 'PUBLISH', %s, '{}',"
        " array[gen_random_uuid()], %s, %s from generate_series(1, %s)"
        " returning recipients[1]::text, extract(epoch from clock_timestamp())::float8",
        columns.get("workflow") or await stack.workflow(),
        columns.get("enterprise"),
        columns.get("scheduled_for"),
        count,
    )
    return dict(rows)


async def first_calls(stack: Stack) -> dict[str, float]:
    """Return when each recipient was called for, as epoch seconds."""
    first: dict[str, float] = {}
    for request in await stack.novu.requests():
        for subscriber in request.subscribers if request.method == "POST" else ():
            first.setdefault(subscriber, request.started_at)
    return first


async def waits(stack: Stack, rows: Rows) -> list[float]:
    """Wait until all have been called for; return the seconds from the commit to the first call, sorted."""

    async def called() -> dict[str, float]:
        first = await first_calls(stack)
        return first if rows.keys() <= first.keys() else {}

    first = await eventually(called, f"calls for {len(rows)} rows; {stack.log_tails()}", 60)
    return sorted(first[recipient] - written for recipient, written in rows.items())


async def one_by_one(stack: Stack, count: int, **columns: Any) -> list[float]:
    """Write rows singly, each once the last one was called for; return their waits."""
    found: list[float] = []
    for _ in range(count):
        found += await waits(stack, await many(stack, 1, **columns))
    return sorted(found)


async def pending(stack: Stack, enterprise: UUID) -> int:
    """Return how many rows of an enterprise are not claimed yet."""
    return await stack.value(
        "select count(*) from notify.ent_notification where enterprise_id = %s and notification_status = 'PENDING'",
        enterprise,
    )


async def holds(stack: Stack, enterprise: UUID) -> int:
    """Return how many rows of an enterprise are in work."""
    return await stack.value(
        "select count(*) from notify.ent_notification where enterprise_id = %s and notification_status = 'PROCESSING'",
        enterprise,
    )


async def test_f96_slow_workflow_slows_only_its_own_rows(stack: Stack):
    """The slow one fills the room that one enterprise has in a node; beside it the others go as if alone."""
    await stack.novu.add_workflow("slow")
    await stack.running()
    idle = await one_by_one(stack, 5, enterprise=uuid4())
    await stack.novu.add_fault("delay", workflow="slow", seconds=9, times=20)
    crowding = uuid4()
    await many(stack, 2_300, enterprise=crowding, workflow=await stack.workflow("slow"))

    async def full() -> bool:
        return await holds(stack, crowding) >= 2_000

    await eventually(full, "a node full of slow rows")
    beside = await one_by_one(stack, 5, enterprise=uuid4())
    assert await pending(stack, crowding) > 0
    assert beside[2] < 1.5 * idle[2] + 0.5, (idle, beside)
    assert beside[-1] < 5, beside
    assert await stack.novu.fault_counts() == [20]
    await stack.all_sent(2_310)
    await effects_are_exactly(stack, 2_310)


async def test_f152_ten_rows_overtake_thousands_of_another_enterprise(stack: Stack):
    """Rows that a node had already claimed are sent before them; waiting rows are not."""
    await stack.running()
    crowding, small = uuid4(), uuid4()
    crowd = await many(stack, 5_000, enterprise=crowding)
    rows = await many(stack, 10, enterprise=small)
    await waits(stack, rows)
    await stack.all_sent(5_010)
    calls = await first_calls(stack)
    last = max(calls[recipient] for recipient in rows)
    before = sum(calls[recipient] < last for recipient in crowd)
    assert before < 3_000, before
    await effects_are_exactly(stack, 5_010)


async def test_f115_poison_rows_do_not_slow_valid_ones(stack: Stack):
    await stack.novu.add_workflow("inactive", active=False)
    await stack.running()
    alone = await waits(stack, await many(stack, 400))
    bad = [await insert(stack, columns) for columns, _ in BAD_ROWS.values() for _ in range(4)]
    among = await waits(stack, await many(stack, 400))
    assert set(await stack.final(*bad)) == {"FAILED"}
    await stack.all_sent(800)
    assert among[-8] < 2 * alone[-8] + 2, (alone[-8], among[-8])


async def test_f104_row_with_ten_thousand_recipients_does_not_starve_others(stack: Stack):
    await stack.running()
    huge = await stack.notify(recipients=[uuid4() for _ in range(10_000)])

    async def begun() -> bool:
        return bool((await stack.novu.summary()).effects)

    await eventually(begun, "the first of many calls")
    beside = await one_by_one(stack, 3)
    assert await stack.status(huge) == "PROCESSING", "the huge row was through before the others were written"
    assert beside[-1] < 3, beside
    assert await stack.final(huge) == ["SENT"]
    await effects_are_exactly(stack, 10_003)
    calls = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert max(len(request.subscribers) for request in calls) == 100


async def test_f143_f151_rows_due_in_the_past_future_and_at_one_instant_are_sent_on_time(stack: Stack):
    await stack.running()
    never = await stack.notify(scheduled_for="2999-01-01")
    assert (await waits(stack, await many(stack, 1, scheduled_for="2016-01-01")))[-1] < 3
    late: list[float] = []
    for _ in range(5):
        due: datetime = await stack.value("select clock_timestamp() + interval '100 ms'")
        rows = dict.fromkeys(await many(stack, 1, scheduled_for=due), due.timestamp())
        late += await waits(stack, rows)
    due = await stack.value("select clock_timestamp() + interval '2 s'")
    crowd = dict.fromkeys(await many(stack, 1_500, scheduled_for=due), due.timestamp())
    late += await waits(stack, crowd)
    assert min(late) >= 0
    assert max(late[:5]) < 1, late[:5]
    await stack.all_sent(1_506)
    assert await stack.status(never) == "PENDING"
    assert not await stack.rows("select from dispatcher.delivery where notification_id = %s", never)


async def test_temporal_workflows_name_their_enterprise(stack: Stack):
    """So that a server that knows fairness lets enterprises take turns where tasks pile up."""
    await stack.running()
    owner = uuid4()
    for enterprise in (owner, None):  # one after the other, so that they do not share a workflow
        assert await stack.final(await stack.notify(enterprise_id=enterprise)) == ["SENT"]
    client = await Client.connect(stack.temporal_address)
    runs = await stack.rows("select workflow_id from dispatcher.delivery order by notification_id")
    found = [await client.get_workflow_handle(workflow_id).describe() for (workflow_id,) in runs]
    assert [run.raw_info.priority.fairness_key for run in found] == [str(owner), ""]
