"""Faults of the wake-up path: whatever becomes of the NOTIFY, rows arrive, and event mode comes back."""

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest
from facts import caught, effects_are_exactly, noticed, proven
from house import House, eventually
from proxy import FaultProxy

LISTENERS = (
    "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen %%'"
    " and pid <> pg_backend_pid()"
)


@pytest.mark.slow
async def test_f01_a_listener_killed_again_and_again(house: House):
    process = await house.running(SUBSCRIPTION_RECONNECT_DELAY="100")
    killed: set[int] = set()

    async def new_listener() -> int:
        return next((pid for (pid,) in await house.rows(LISTENERS) if pid not in killed), 0)

    for _ in range(4):
        pid = await eventually(new_listener, "a listener to kill")
        assert await house.value("select pg_terminate_backend(%s)", pid)
        killed.add(pid)
        assert await house.final(await house.notify(), within=5) == ["SENT"]
    await proven(process, 2)
    await effects_are_exactly(house, 4)


@pytest.mark.slow
async def test_f02_a_half_open_listener_is_noticed_and_polled_around(
    house: House, to_postgres: FaultProxy, proxied_url: str
):
    process = await house.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    to_postgres.stall()
    row = await house.notify()
    await noticed(process)
    assert to_postgres.counts["stalled_down"] > 0
    assert await house.final(row, within=5) == ["SENT"]
    assert await house.final(await house.notify(), within=5) == ["SENT"]
    await to_postgres.heal()
    await proven(process, 2)
    assert await house.final(await house.notify(), within=5) == ["SENT"]


@pytest.mark.slow
async def test_f04_a_session_that_lost_its_registrations(house: House, to_postgres: FaultProxy, proxied_url: str):
    process = await house.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    words = b"unlisten *\0"
    to_postgres.inject(b"Q" + struct.pack("!i", 4 + len(words)) + words)

    async def forgot() -> bool:
        return await house.value(
            "select count(*) = 1 from pg_stat_activity where datname = current_database() and query = 'unlisten *'"
        )

    await eventually(forgot, "the session to forget what it listens to")
    row = await house.notify()
    await noticed(process)
    assert await house.final(row, within=5) == ["SENT"]
    await proven(process, 2)
    assert await house.final(await house.notify(), within=5) == ["SENT"]


async def test_f07_a_commit_while_listen_is_on_its_way(house: House, to_postgres: FaultProxy, proxied_url: str):
    await house.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    to_postgres.trap(b'listen "dispatcher_canary')
    to_postgres.reset()
    # Both LISTENs are in force, and the listener does not know it yet.
    await eventually(lambda: caught(to_postgres), "a LISTEN on its way")
    in_force = LISTENERS + " and query ilike 'listen \"dispatcher_canary%%' and state = 'idle'"
    await eventually(lambda: house.rows(in_force), "a LISTEN without an answer")
    row = await house.notify()
    await to_postgres.heal()
    assert await house.final(row, within=5) == ["SENT"]
    assert to_postgres.counts["caught"] == 1


@asynccontextmanager
async def ears(house: House) -> AsyncGenerator[psycopg.AsyncConnection]:
    """Listen beside the dispatcher, to know that a wake-up really went out."""
    async with await psycopg.AsyncConnection.connect(house.url, autocommit=True) as connection:
        await connection.execute("listen dispatcher")
        yield connection


async def heard(connection: psycopg.AsyncConnection) -> list[str]:
    """Return the payloads heard so far; one of our own marks the end."""
    await connection.execute("notify dispatcher, 'the end'")
    payloads = [notify.payload async for notify in connection.notifies(timeout=0)]
    assert payloads.pop() == "the end"
    return payloads


async def test_f08_a_thousand_wake_ups_for_one_row(house: House):
    await house.running()
    async with ears(house) as hearing:
        row = await house.notify()
        await house.rows("select pg_notify('dispatcher', i::text) from generate_series(1, 1000) i")
        assert set(await heard(hearing)) >= {str(i) for i in range(1, 1001)}
    assert await house.final(row) == ["SENT"]
    assert await house.final(await house.notify()) == ["SENT"]
    assert await house.value("select count(*) from oracle.audit where new_status = 'PROCESSING'") == 2
    await effects_are_exactly(house, 2)


async def test_f10_forged_wake_ups_are_only_wake_ups(house: House):
    process = await house.running()
    marker = "forged-marker"
    forged = ["", "-1", str(2**63), "'; drop table notify.ent_notification; --", "\\x00\n\x1b[31m", marker * 500]
    async with ears(house) as hearing:
        for payload in forged:
            await house.rows("select pg_notify('dispatcher', %s)", payload)
        assert await heard(hearing) == forged
    assert await house.final(await house.notify()) == ["SENT"]
    assert marker not in process.words()
    assert process.popen.poll() is None
    await effects_are_exactly(house, 1)


async def test_f13_folded_and_rolled_back_wake_ups(house: House):
    workflow = await house.workflow()
    rolled_back = 0
    async with ears(house) as hearing:  # nobody is awake, so every ring is heard
        async with house.connection.transaction(force_rollback=True):
            rolled_back = await house.notify(workflow=workflow)
        assert await heard(hearing) == []
        async with house.connection.transaction():
            row = await house.notify(workflow=workflow, publish_status="DRAFT")
            for status in ("PUBLISH", "DRAFT", "PUBLISH"):
                await house.rows("update notify.ent_notification set publish_status = %s where id = %s", status, row)
        assert await heard(hearing) == [""]
    await house.running()
    assert await house.final(row) == ["SENT"]
    assert await house.rows("select from notify.ent_notification where id = %s", rolled_back) == []
    await effects_are_exactly(house, 1)


async def test_f14_silenced_triggers_cost_one_sweep(house: House):
    await house.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await house.final(await house.notify())
    await house.asleep()
    async with await psycopg.AsyncConnection.connect(house.url, autocommit=True) as ears:
        await ears.execute("listen dispatcher")
        await house.rows("set session_replication_role = replica")
        replica = await house.notify()
        await house.rows("reset session_replication_role")
        await house.rows("alter table notify.ent_notification disable trigger user")
        disabled = await house.notify()
        await house.rows("alter table notify.ent_notification enable trigger user")
        assert await house.final(replica, disabled, within=10) == ["SENT", "SENT"]
        assert [notify async for notify in ears.notifies(timeout=0)] == []


@pytest.mark.slow
async def test_f18_a_producer_that_commits_after_all_others(house: House):
    await house.running()
    workflow = await house.workflow()
    async with await psycopg.AsyncConnection.connect(house.url) as slow:
        cursor = await slow.execute(
            "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)"
            " values ('late', 'PUBLISH', %s, '{}', array[gen_random_uuid()]) returning id",
            [workflow],
        )
        [late] = await cursor.fetchone() or [0]
        await house.burst(1000)
        await house.all_sent(1000)
        await slow.commit()
    assert await house.value("select max(id) from notify.ent_notification") > late
    assert await house.final(late, within=5) == ["SENT"]
    await effects_are_exactly(house, 1001)
