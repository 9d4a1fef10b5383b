"""The path to PostgreSQL falls silent under open connections while TCP stays up: we hang up, and go on."""

import asyncio
import time

import pytest

from dispatcher.config.conninfo import conninfo
from dispatcher.postgres.pool import CONNECTION_ERRORS, StatementTimeout, borrow_connection, open_pool
from tests.faults.waits import effects_are_exactly, proven
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


async def test_f22_silent_connection_is_closed_and_the_pool_reconnects(to_postgres: FaultProxy, proxied_url: str):
    pool = await open_pool(conninfo(proxied_url))
    try:
        await pool.wait()
        to_postgres.stall_present()
        started = time.monotonic()
        with pytest.raises(StatementTimeout, match="did not answer within"):
            await run_query(pool)
        assert time.monotonic() - started < 5
        assert to_postgres.counts["stalled_up"] > 0
        await run_query(pool)  # on a new connection: the other one that was open is not tried
    finally:
        await pool.close(timeout=2)


async def test_f22_connection_attempts_to_a_silent_server_time_out(to_postgres: FaultProxy, proxied_url: str):
    pool = await open_pool(conninfo(proxied_url + "?connect_timeout=2"))
    try:
        await pool.wait()
        to_postgres.stall()
        for _ in range(2):
            with pytest.raises(CONNECTION_ERRORS):
                await run_query(pool)
        assert to_postgres.counts["stalled_up"] > 0
        await to_postgres.heal()

        async def answered() -> bool:
            try:
                await run_query(pool)
            except CONNECTION_ERRORS:
                return False
            return True

        await eventually(answered, "an answer after the path has healed", 20)
    finally:
        await pool.close(timeout=2)


async def run_query(pool: object) -> None:
    async with borrow_connection(pool, 0.5) as connection:  # pyright: ignore[reportArgumentType]
        await connection.execute("select 1")


@pytest.mark.slow
async def test_f22_silent_path_under_a_running_process_is_survived(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    through = {"DATABASE_URL": proxied_url, "DISPATCHER_LISTEN_DATABASE_URL": stack.url}
    going, staying = stack.start(**through, **QUICK), stack.start(**through, **QUICK)
    await proven(going, 1)
    await proven(staying, 1)
    assert await stack.final(await stack.notify()) == ["SENT"]
    to_postgres.stall_present()
    row = await stack.notify()
    started = time.monotonic()
    stopping = asyncio.create_task(going.stop(within=26))
    assert await stack.final(row, within=70) == ["SENT"]
    seen = time.monotonic() - started
    assert await stopping == 0
    assert to_postgres.counts["stalled_up"] > 0
    assert "did not answer within" in staying.read_log()
    assert staying.popen.poll() is None
    assert seen < 60, "the statement that was on the wire is given up after 35 s"
    await effects_are_exactly(stack, 2)
