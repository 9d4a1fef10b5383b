"""Faults of the wake-up path: rows are sent without NOTIFY too, and event mode returns."""

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest

from tests.faults.waits import caught, effects_are_exactly, noticed, proven
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually

LISTENERS = (
    "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen %%'"
    " and pid <> pg_backend_pid()"
)


@pytest.mark.slow
async def test_f01_repeatedly_killed_listener_reconnects(stack: Stack):
    process = await stack.running(SUBSCRIPTION_RECONNECT_DELAY="100")
    killed: set[int] = set()

    async def new_listener() -> int:
        return next((pid for (pid,) in await stack.rows(LISTENERS) if pid not in killed), 0)

    for _ in range(4):
        pid = await eventually(new_listener, "a listener to kill")
        assert await stack.value("select pg_terminate_backend(%s)", pid)
        killed.add(pid)
        assert await stack.final(await stack.notify(), within=5) == ["SENT"]
    await proven(process, 2)
    await effects_are_exactly(stack, 4)


@pytest.mark.slow
async def test_f02_half_open_listener_is_detected_and_the_table_polled(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    process = await stack.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    to_postgres.stall()
    row = await stack.notify()
    await noticed(process)
    assert to_postgres.counts["stalled_down"] > 0
    assert await stack.final(row, within=5) == ["SENT"]
    assert await stack.final(await stack.notify(), within=5) == ["SENT"]
    await to_postgres.heal()
    await proven(process, 2)
    assert await stack.final(await stack.notify(), within=5) == ["SENT"]


@pytest.mark.slow
async def test_f04_session_without_its_listen_is_detected(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    process = await stack.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    words = b"unlisten *\0"
    to_postgres.inject(b"Q" + struct.pack("!i", 4 + len(words)) + words)

    async def forgot() -> bool:
        return await stack.value(
            "select count(*) = 1 from pg_stat_activity where datname = current_database() and query = 'unlisten *'"
        )

    await eventually(forgot, "the session to forget what it listens to")
    row = await stack.notify()
    await noticed(process)
    assert await stack.final(row, within=5) == ["SENT"]
    await proven(process, 2)
    assert await stack.final(await stack.notify(), within=5) == ["SENT"]


async def test_f07_commit_during_listen_is_not_lost(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    await stack.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    to_postgres.trap(b'listen "dispatcher_canary')
    to_postgres.reset()
    # Both LISTENs are in force, and the listener does not know it yet.
    await eventually(lambda: caught(to_postgres), "a LISTEN on its way")
    in_force = LISTENERS + " and query ilike 'listen \"dispatcher_canary%%' and state = 'idle'"
    await eventually(lambda: stack.rows(in_force), "a LISTEN without an answer")
    row = await stack.notify()
    await to_postgres.heal()
    assert await stack.final(row, within=5) == ["SENT"]
    assert to_postgres.counts["caught"] == 1


@asynccontextmanager
async def open_listener(stack: Stack) -> AsyncGenerator[psycopg.AsyncConnection]:
    """Listen beside the dispatcher, to know that a wake-up really went out."""
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as connection:
        await connection.execute("listen dispatcher")
        yield connection


async def received(connection: psycopg.AsyncConnection) -> list[str]:
    """Return the payloads received so far; a NOTIFY of our own marks the end."""
    await connection.execute("notify dispatcher, 'the end'")
    payloads = [notify.payload async for notify in connection.notifies(timeout=0)]
    assert payloads.pop() == "the end"
    return payloads


async def test_f08_thousand_wake_ups_for_one_row_make_one_claim(stack: Stack):
    await stack.running()
    async with open_listener(stack) as hearing:
        row = await stack.notify()
        await stack.rows("select pg_notify('dispatcher', i::text) from generate_series(1, 1000) i")
        assert set(await received(hearing)) >= {str(i) for i in range(1, 1001)}
    assert await stack.final(row) == ["SENT"]
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await stack.value("select count(*) from oracle.audit where new_status = 'PROCESSING'") == 2
    await effects_are_exactly(stack, 2)


async def test_f10_forged_wake_ups_are_only_wake_ups(stack: Stack):
    process = await stack.running()
    marker = "forged-marker"
    forged = ["", "-1", str(2**63), "'; drop table notify.ent_notification; --", "\\x00\n\x1b[31m", marker * 500]
    async with open_listener(stack) as hearing:
        for payload in forged:
            await stack.rows("select pg_notify('dispatcher', %s)", payload)
        assert await received(hearing) == forged
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert marker not in process.read_log()
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 1)


async def test_f13_folded_and_rolled_back_wake_ups_have_no_extra_effect(stack: Stack):
    workflow = await stack.workflow()
    rolled_back = 0
    async with open_listener(stack) as hearing:  # no node is awake, so every NOTIFY is sent
        async with stack.connection.transaction(force_rollback=True):
            rolled_back = await stack.notify(workflow=workflow)
        assert await received(hearing) == []
        async with stack.connection.transaction():
            row = await stack.notify(workflow=workflow, publish_status="DRAFT")
            for status in ("PUBLISH", "DRAFT", "PUBLISH"):
                await stack.rows("update notify.ent_notification set publish_status = %s where id = %s", status, row)
        assert await received(hearing) == [""]
    await stack.running()
    assert await stack.final(row) == ["SENT"]
    assert await stack.rows("select from notify.ent_notification where id = %s", rolled_back) == []
    await effects_are_exactly(stack, 1)


async def test_f14_suppressed_triggers_delay_rows_by_one_sweep(stack: Stack):
    await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await stack.final(await stack.notify())
    await stack.asleep()
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as listening:
        await listening.execute("listen dispatcher")
        await stack.rows("set session_replication_role = replica")
        replica = await stack.notify()
        await stack.rows("reset session_replication_role")
        await stack.rows("alter table notify.ent_notification disable trigger user")
        disabled = await stack.notify()
        await stack.rows("alter table notify.ent_notification enable trigger user")
        assert await stack.final(replica, disabled, within=10) == ["SENT", "SENT"]
        assert [notify async for notify in listening.notifies(timeout=0)] == []


@pytest.mark.slow
async def test_f18_late_commit_of_a_low_id_is_sent(stack: Stack):
    await stack.running()
    workflow = await stack.workflow()
    async with await psycopg.AsyncConnection.connect(stack.url) as slow:
        cursor = await slow.execute(
            "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)"
            " values ('late', 'PUBLISH', %s, '{}', array[gen_random_uuid()]) returning id",
            [workflow],
        )
        [late] = await cursor.fetchone() or [0]
        await stack.burst(1000)
        await stack.all_sent(1000)
        await slow.commit()
    assert await stack.value("select max(id) from notify.ent_notification") > late
    assert await stack.final(late, within=5) == ["SENT"]
    await effects_are_exactly(stack, 1001)
