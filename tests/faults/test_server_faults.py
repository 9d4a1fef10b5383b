"""Faults between us and our servers: locks, pauses, lost answers, slow and broken connections."""

import os
import random
import signal
from pathlib import Path

import psycopg
import pytest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from tests.faults.waits import caught, effects_are_exactly
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.statements import opening
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


@pytest.mark.slow
async def test_f22_paused_backends_only_delay(stack: Stack):
    process = await stack.running(**QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    pids = [
        pid
        for (pid,) in await stack.rows(
            "select pid from pg_stat_activity where datname = current_database() and application_name = 'dispatcher'"
        )
    ]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        async def stopped() -> bool:
            return all(map(stands_still, pids))

        await eventually(stopped, "every backend to stand still")
        row = await stack.notify()
        late = "select clock_timestamp() > created_at + interval '4 s' from notify.ent_notification where id = %s"
        await eventually(lambda: stack.value(late, row), "four seconds")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert await stack.final(row, within=20) == ["SENT"]
    assert await stack.final(await stack.notify(), within=10) == ["SENT"]
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 3)


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


async def test_f26_locked_row_delays_no_other(stack: Stack):
    await stack.running(**QUICK)
    async with await psycopg.AsyncConnection.connect(stack.url) as other:
        # It becomes due while it is locked.
        locked = await stack.notify(scheduled_for="infinity")
        await stack.rows(
            "update notify.ent_notification set scheduled_for = clock_timestamp() + interval '1 s' where id = %s",
            locked,
        )
        await other.execute("select from notify.ent_notification where id = %s for update", [locked])
        due = "select clock_timestamp() > scheduled_for + interval '0.2 s' from notify.ent_notification where id = %s"
        await eventually(lambda: stack.value(due, locked), "the locked row to be due")
        rows = [await stack.notify() for _ in range(3)]
        assert await stack.final(*rows, within=10) == ["SENT"] * 3
        assert await stack.status(locked) == "PENDING"
    assert await stack.final(locked, within=10) == ["SENT"]


@pytest.mark.slow
async def test_f26_locked_table_is_waited_for(stack: Stack):
    process = await stack.running(**QUICK)
    async with await psycopg.AsyncConnection.connect(stack.url) as other:
        await other.execute("lock table notify.ent_notification in access exclusive mode")

        async def timed_out() -> bool:
            return "lock timeout" in process.read_log()

        await eventually(timed_out, "a statement that gave up waiting", 20)
        async with await process.http() as http:

            async def named() -> bool:
                return "claim" in (await http.get("/readyz")).json().get("broken", [])

            await eventually(named, "a readiness that names the claim")
    assert await stack.final(await stack.notify(), within=20) == ["SENT"]
    assert process.popen.poll() is None
    assert "database_unreachable" not in process.read_log()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "done"),
    [
        (opening("record_calls"), "select count(*) from dispatcher.recipient where state = 'sending'"),
        (
            opening("settle"),
            "select count(*) from notify.ent_notification where notification_status = 'SENT'",
        ),
    ],
    ids=["sending", "settle"],
)
async def test_f31_lost_answer_to_a_commit_has_one_effect(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str, pattern: str, done: str
):
    # Sweeps are rare, so that the trap meets the row's own statement.
    await stack.running(
        DATABASE_URL=proxied_url,
        DISPATCHER_LISTEN_DATABASE_URL=stack.url,
        DISPATCHER_LEASE="5s",
        DISPATCHER_SWEEP_INTERVAL="5s",
    )
    to_postgres.trap(pattern.encode())
    row = await stack.notify()
    await eventually(lambda: caught(to_postgres), "the statement on the wire")
    await eventually(lambda: stack.value(done), "its effect in the database")
    to_postgres.reset()
    await to_postgres.heal()
    # A call that was written down may be on its way: it is left alone until it is surely over.
    assert await stack.final(row, within=75) == ["SENT"]
    assert to_postgres.counts["caught"] == 1
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
async def test_f40_latency_to_all_three_servers_is_survived(
    stack: Stack, to_postgres: FaultProxy, to_temporal: FaultProxy, to_novu: FaultProxy, proxied_url: str
):
    roads = (to_postgres, to_temporal, to_novu)
    await stack.running(
        DATABASE_URL=proxied_url,
        TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}",
        NOVU_API_URL=f"http://127.0.0.1:{to_novu.port}",
    )
    for road in roads:
        road.delay = road.jitter = 0.1  # 0 to 200 ms each way
    rows = [await stack.notify() for _ in range(5)]
    await stack.burst(60)
    await stack.all_sent(65)
    assert await stack.final(*rows) == ["SENT"] * 5
    assert all(road.counts["delayed"] > 1 for road in roads), "rows that share calls and workflows need few of them"
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    await effects_are_exactly(stack, 65)


@pytest.mark.slow
async def test_f42_novu_connections_reset_at_any_byte_have_one_effect(stack: Stack, to_novu: FaultProxy):
    await stack.running(NOVU_API_URL=f"http://127.0.0.1:{to_novu.port}", DISPATCHER_BATCH_SIZE="1")
    dice = random.Random(42)
    to_novu.budgets = iter([dice.randrange(1, 1400) for _ in range(12)])
    sent = 0
    while to_novu.counts["cut"] < 8 and sent < 400:
        await stack.burst(10)
        sent += 10
        await stack.all_sent(sent)
    assert to_novu.counts["cut"] >= 8
    await effects_are_exactly(stack, sent)


@pytest.mark.slow
async def test_f42_postgres_connections_reset_at_any_byte_have_one_effect(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    await stack.running(DATABASE_URL=proxied_url, DISPATCHER_LISTEN_DATABASE_URL=stack.url, **QUICK)
    dice = random.Random(43)
    to_postgres.budgets = iter([dice.randrange(1500, 12000) for _ in range(10)])
    to_postgres.reset()
    for _ in range(4):
        await stack.burst(25)
    await stack.all_sent(100)
    assert to_postgres.counts["cut"] >= 3
    await effects_are_exactly(stack, 100)


@pytest.mark.slow
async def test_f63_lost_answer_to_a_start_has_one_effect(stack: Stack, to_temporal: FaultProxy):
    process = await stack.running(TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}", **QUICK)
    client = await Client.connect(stack.temporal_address)
    to_temporal.trap(b"notification-")
    row = await stack.notify()
    await eventually(lambda: caught(to_temporal), "a start on the wire")
    workflow_id = await stack.value("select workflow_id from dispatcher.delivery where notification_id = %s", row)
    started = await eventually(lambda: describe(client, workflow_id), "the workflow at the server")
    to_temporal.reset()
    await to_temporal.heal()
    assert await stack.final(row, within=40) == ["SENT"]
    assert started.id == workflow_id
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 1)


async def describe(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """Return the workflow, or None while the server does not know it."""
    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return None
