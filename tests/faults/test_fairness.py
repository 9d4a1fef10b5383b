"""What one enterprise, one Novu workflow, one huge or one poisoned row does to the others: nothing, or little."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from facts import effects_are_exactly
from house import House, eventually
from temporalio.client import Client
from test_bad_input import BAD_ROWS, insert

Rows = Mapping[str, float]
"""When each recipient's row was written, as epoch seconds."""


async def many(house: House, count: int, **columns: Any) -> Rows:
    """Insert `count` rows of one recipient in one statement."""
    rows = await house.rows(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
        " enterprise_id, scheduled_for) select 'n ' || gen_random_uuid(), 'PUBLISH', %s, '{}',"
        " array[gen_random_uuid()], %s, %s from generate_series(1, %s)"
        " returning recipients[1]::text, extract(epoch from clock_timestamp())::float8",
        columns.get("workflow") or await house.workflow(),
        columns.get("enterprise"),
        columns.get("scheduled_for"),
        count,
    )
    return dict(rows)


async def first_calls(house: House) -> dict[str, float]:
    """Return when each recipient was called for, as epoch seconds."""
    first: dict[str, float] = {}
    for request in await house.novu.requests():
        for subscriber in request.subscribers if request.method == "POST" else ():
            first.setdefault(subscriber, request.started_at)
    return first


async def waits(house: House, rows: Rows) -> list[float]:
    """Wait until all have been called for; return the seconds from the commit to the first call, sorted."""

    async def called() -> dict[str, float]:
        first = await first_calls(house)
        return first if rows.keys() <= first.keys() else {}

    first = await eventually(called, f"calls for {len(rows)} rows; {house.last_words()}", 60)
    return sorted(first[recipient] - written for recipient, written in rows.items())


async def one_by_one(house: House, count: int, **columns: Any) -> list[float]:
    """Write rows singly, each once the last one was called for; return their waits."""
    found: list[float] = []
    for _ in range(count):
        found += await waits(house, await many(house, 1, **columns))
    return sorted(found)


async def pending(house: House, enterprise: UUID) -> int:
    """Return how many rows of an enterprise nobody has taken yet."""
    return await house.value(
        "select count(*) from notify.ent_notification where enterprise_id = %s and notification_status = 'PENDING'",
        enterprise,
    )


async def holds(house: House, enterprise: UUID) -> int:
    """Return how many rows of an enterprise are in work."""
    return await house.value(
        "select count(*) from notify.ent_notification where enterprise_id = %s and notification_status = 'PROCESSING'",
        enterprise,
    )


async def test_f96_a_slow_workflow_slows_only_its_own_rows(house: House):
    """The slow one fills the room that one enterprise has in a node; beside it the others go as if alone."""
    await house.novu.add_workflow("slow")
    await house.running()
    idle = await one_by_one(house, 5, enterprise=uuid4())
    await house.novu.add_fault("delay", workflow="slow", seconds=9, times=20)
    crowding = uuid4()
    await many(house, 2_300, enterprise=crowding, workflow=await house.workflow("slow"))

    async def full() -> bool:
        return await holds(house, crowding) >= 2_000

    await eventually(full, "a node full of slow rows")
    beside = await one_by_one(house, 5, enterprise=uuid4())
    assert await pending(house, crowding) > 0
    assert beside[2] < 1.5 * idle[2] + 0.5, (idle, beside)
    assert beside[-1] < 5, beside
    assert await house.novu.struck() == [20]
    await house.all_sent(2_310)
    await effects_are_exactly(house, 2_310)


async def test_f152_ten_rows_behind_thousands_of_another_enterprise(house: House):
    """What a node had already taken goes before them, what waits does not."""
    await house.running()
    crowding, small = uuid4(), uuid4()
    crowd = await many(house, 5_000, enterprise=crowding)
    rows = await many(house, 10, enterprise=small)
    await waits(house, rows)
    await house.all_sent(5_010)
    calls = await first_calls(house)
    last = max(calls[recipient] for recipient in rows)
    before = sum(calls[recipient] < last for recipient in crowd)
    assert before < 3_000, before
    await effects_are_exactly(house, 5_010)


async def test_f115_poison_among_good_rows_does_not_slow_them(house: House):
    await house.novu.add_workflow("inactive", active=False)
    await house.running()
    alone = await waits(house, await many(house, 400))
    bad = [await insert(house, columns) for columns, _ in BAD_ROWS.values() for _ in range(4)]
    among = await waits(house, await many(house, 400))
    assert set(await house.final(*bad)) == {"FAILED"}
    await house.all_sent(800)
    assert among[-8] < 2 * alone[-8] + 2, (alone[-8], among[-8])


async def test_f104_ten_thousand_recipients_do_not_starve_the_others(house: House):
    await house.running()
    huge = await house.notify(recipients=[uuid4() for _ in range(10_000)])

    async def begun() -> bool:
        return bool((await house.novu.summary()).effects)

    await eventually(begun, "the first of many calls")
    beside = await one_by_one(house, 3)
    assert await house.status(huge) == "PROCESSING", "the huge row was through before the others were written"
    assert beside[-1] < 3, beside
    assert await house.final(huge) == ["SENT"]
    await effects_are_exactly(house, 10_003)
    calls = [request for request in await house.novu.requests() if request.method == "POST"]
    assert max(len(request.subscribers) for request in calls) == 100


async def test_f143_f151_due_long_ago_in_years_soon_and_thousands_at_one_instant(house: House):
    await house.running()
    never = await house.notify(scheduled_for="2999-01-01")
    assert (await waits(house, await many(house, 1, scheduled_for="2016-01-01")))[-1] < 3
    late: list[float] = []
    for _ in range(5):
        due: datetime = await house.value("select clock_timestamp() + interval '100 ms'")
        rows = dict.fromkeys(await many(house, 1, scheduled_for=due), due.timestamp())
        late += await waits(house, rows)
    due = await house.value("select clock_timestamp() + interval '2 s'")
    crowd = dict.fromkeys(await many(house, 1_500, scheduled_for=due), due.timestamp())
    late += await waits(house, crowd)
    assert min(late) >= 0
    assert max(late[:5]) < 1, late[:5]
    await house.all_sent(1_506)
    assert await house.status(never) == "PENDING"
    assert not await house.rows("select from dispatcher.delivery where notification_id = %s", never)


async def test_temporal_knows_whose_rows_a_run_carries(house: House):
    """So that a server that knows fairness lets enterprises take turns where tasks pile up."""
    await house.running()
    owner = uuid4()
    rows = [await house.notify(enterprise_id=owner), await house.notify()]
    await house.final(*rows)
    client = await Client.connect(house.temporal_address)
    runs = await house.rows("select workflow_id from dispatcher.delivery order by notification_id")
    found = [await client.get_workflow_handle(workflow_id).describe() for (workflow_id,) in runs]
    assert [run.raw_info.priority.fairness_key for run in found] == [str(owner), ""]
