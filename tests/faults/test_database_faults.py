"""Faults inside a healthy server: hostile defaults, old snapshots, maintenance, an answer lost at the claim itself."""

import json

import psycopg
import pytest
from psycopg import sql

from tests.faults.waits import effects_are_exactly, proven
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
HOSTILE = {
    "search_path": "nowhere",
    "timezone": "Australia/Lord_Howe",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "50ms",
    "lock_timeout": "5ms",
    "idle_session_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "enable_indexscan": "off",
    "row_security": "on",
}
"""Settings that ALTER DATABASE can give to every session that does not set its own."""
DISPATCHERS = "datname = current_database() and application_name = 'dispatcher'"


async def test_f25_f27_f35_hostile_database_defaults_have_no_effect(stack: Stack):
    name = sql.Identifier(stack.url.rsplit("/", 1)[1])
    for setting, value in HOSTILE.items():
        statement = sql.SQL("alter database {} set {} = {}").format(name, sql.Identifier(setting), value)
        await stack.connection.execute(statement)
    process = await stack.running(**QUICK)
    await proven(process, 1)
    assert await fresh(stack, "select current_setting('statement_timeout')") == "50ms", "new sessions start hostile"
    row = await stack.notify(payload=json.dumps({"title": "Übermut 🚀 العربية"}, ensure_ascii=False))
    later = await stack.notify()
    await stack.rows(
        "update notify.ent_notification set scheduled_for = clock_timestamp() + interval '2.5 s',"
        " notification_status = 'PENDING' where id = %s",
        later,
    )
    # Longer than every limit of the database: the claim waits, and so do the others.
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as other:
        await other.execute("set statement_timeout = 0; set lock_timeout = 0")
        await other.execute("set idle_in_transaction_session_timeout = 0")
        async with other.transaction():
            await other.execute("lock table notify.ent_notification in access exclusive mode")

            async def waits() -> bool:
                return await stack.value(
                    f"select count(*) from pg_stat_activity where {DISPATCHERS} and wait_event_type = 'Lock'"
                    " and clock_timestamp() - query_start > interval '300 ms'"
                )

            await eventually(waits, "a statement of ours that waits longer than the database allows")
    await stack.burst(100, enterprises=3)
    assert await stack.final(row, later) == ["SENT"] * 2
    await stack.all_sent(102)
    words = process.read_log()
    assert "timeout" not in words.replace("lock_timeout", "")
    assert words.count('"not_listening"') == 0, "idle sessions of ours are not ended"
    await effects_are_exactly(stack, 102)


async def fresh(stack: Stack, statement: str) -> str:
    """Return a value as a new session sees it."""
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as connection:
        row = await (await connection.execute(statement.encode())).fetchone()
        assert row is not None
        return str(row[0])


@pytest.mark.slow
async def test_f28_old_open_transaction_delays_nothing(stack: Stack):
    process = await stack.running(**QUICK)
    await proven(process, 1)
    async with await psycopg.AsyncConnection.connect(stack.url) as old:
        await old.execute("create temporary table holds_an_id ()")
        # Dead rows that no vacuum can remove. The order is by id, like our locks: another order can deadlock.
        rewrite = (
            "update notify.ent_notification n set name = n.name from"
            " (select id from notify.ent_notification order by id for no key update) locked where n.id = locked.id"
        )
        for _ in range(4):
            await stack.burst(300)
            await stack.rows(rewrite)
        await stack.all_sent(1200)
        assert await stack.final(await stack.notify(), within=5) == ["SENT"]
        horizon = "select pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(pg_current_snapshot())"
        assert await stack.value(horizon), "the old transaction is still open"

    await stack.asleep()
    assert await stack.final(await stack.notify(), within=5) == ["SENT"]
    await effects_are_exactly(stack, 1202)


@pytest.mark.slow
async def test_f31_lost_answer_to_a_claim_has_one_effect(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    process = await stack.running(DATABASE_URL=proxied_url, DISPATCHER_LISTEN_DATABASE_URL=stack.url, **QUICK)
    # The claim waits for our lock; when it ends, its connection is gone and the answer is lost.
    await stack.rows(
        "create function oracle.stop() returns trigger language plpgsql security definer"
        " set search_path = pg_catalog, pg_temp as"
        " 'begin perform pg_advisory_xact_lock_shared(31); return null; end';"
        " create trigger stop after update of notification_status on notify.ent_notification for each row"
        " when (new.notification_status = 'PROCESSING') execute function oracle.stop()"
    )
    await stack.rows("select pg_advisory_lock(31)")
    row = await stack.notify()
    stopped = "select count(*) from pg_locks where locktype = 'advisory' and objid = 31 and not granted"
    await eventually(lambda: stack.value(stopped), "a claim in its middle")
    to_postgres.stall("down")
    await stack.rows("select pg_advisory_unlock(31)")

    async def claimed() -> bool:
        return await stack.status(row) == "PROCESSING"

    await eventually(claimed, "a claim that is committed")

    async def held_back() -> bool:
        return to_postgres.counts["stalled_down"] > 0

    await eventually(held_back, "an answer on its way")
    assert "claimed" not in process.read_log().replace("unclaimed", "")
    to_postgres.reset()
    await to_postgres.heal()
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
async def test_f33_maintenance_during_a_burst_only_delays(stack: Stack):
    await stack.novu.configure(latency_ms=100)
    await stack.running(**QUICK)
    await stack.burst(3000)
    rounds = 0
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as keeper:
        while (await stack.counts()).get("SENT", 0) < 3000 and rounds < 4:
            for table in ("notify.ent_notification", "dispatcher.delivery", "dispatcher.recipient"):
                for command in ("vacuum full", "reindex table", "analyze"):
                    await keeper.execute(f"{command} {table}".encode())
            rounds += (await stack.counts()).get("SENT", 0) < 3000
    assert rounds > 0, "the burst was over before the maintenance"
    await stack.all_sent(3000)
    await effects_are_exactly(stack, 3000)
