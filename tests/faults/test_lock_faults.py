"""Producers' locks on single rows: every other row goes on, and the locked ones follow."""

from uuid import uuid4

import psycopg

from tests.faults.waits import effects_are_exactly
from tests.support.stack import Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


async def test_f187_locked_rows_hold_up_no_outcome_and_no_retraction_of_others(stack: Stack):
    process = await stack.running(**QUICK)
    to_retract = [await stack.notify() for _ in range(3)]
    assert await stack.final(*to_retract) == ["SENT"] * 3
    await stack.novu.configure(latency_ms=1500)
    await stack.burst(100)

    async def in_work() -> int:
        return (await stack.counts()).get("PROCESSING", 0) == 100

    await eventually(in_work, "a hundred rows in work")
    in_batch = await stack.value("select max(id) - 30 from notify.ent_notification")
    await stack.rows(
        "update notify.ent_notification set notification_status = 'RETRACTED' where id = any(%s)", to_retract
    )
    async with await psycopg.AsyncConnection.connect(stack.url) as producer:
        lock = "update notify.ent_notification set name = name where id = any(%s)"
        await producer.execute(lock.encode(), [[in_batch, to_retract[0]]])
        await stack.all_sent(99, within=15)
        cancelled = "select count(*) from dispatcher.recipient where state = 'cancelled'"

        async def others_cancelled() -> bool:
            return await stack.value(cancelled) >= 2

        await eventually(others_cancelled, "the other retractions at Novu", 15)
        assert await stack.status(in_batch) == "PROCESSING"
    assert await stack.final(in_batch, within=25) == ["SENT"]

    async def all_cancelled() -> bool:
        return await stack.value(cancelled) == 3

    await eventually(all_cancelled, "the last retraction at Novu", 15)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    assert "database_unreachable" not in process.read_log()
    await effects_are_exactly(stack, 103)


async def test_f187_locked_row_of_a_refused_call_waits_alone(stack: Stack):
    bad = uuid4()
    await stack.novu.add_fault("status", status=422, message="bad recipient", recipient=str(bad))
    await stack.novu.configure(latency_ms=500)
    await stack.running(**QUICK)
    row = await stack.notify(recipients=[bad])

    async def in_work() -> bool:
        return await stack.status(row) == "PROCESSING"

    await eventually(in_work, "the row in work")
    async with await psycopg.AsyncConnection.connect(stack.url) as producer:
        await producer.execute("select from notify.ent_notification where id = %s for update", [row])
        assert await stack.final(await stack.notify(), within=10) == ["SENT"]

        async def refused() -> bool:
            return await stack.value("select count(*) from dispatcher.recipient where state = 'refused'") == 1

        await eventually(refused, "Novu's answer in the ledger")
    assert await stack.final(row, within=25) == ["FAILED"]
    assert (await stack.details(row))["attempts"] == 1
