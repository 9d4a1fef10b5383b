"""PostgreSQL has no more of something: connections, or room in its queue of notifications."""

import json
from contextlib import AsyncExitStack

import psycopg
import pytest

from tests.faults.own_server import OwnServer, reconnect
from tests.faults.waits import effects_are_exactly, proven
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s", "SUBSCRIPTION_RECONNECT_DELAY": "100"}


@pytest.fixture
def url(own: OwnServer) -> str:
    """The stack uses the test's own server."""
    return own.url()


async def test_f29_exhausted_connections_are_waited_for(stack: Stack, own: OwnServer):
    process = await stack.running(**QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    async with AsyncExitStack() as hogs:
        workflow = await stack.workflow()
        while await hogged(own.url(), hogs):
            pass
        # The connections that we hold are enough to go on.
        assert await stack.final(await stack.notify(workflow=workflow)) == ["SENT"]
        ours = "from pg_stat_activity where application_name = 'dispatcher'"
        [killed] = await stack.rows(f"select count(pg_terminate_backend(pid)) {ours}")
        while await hogged(own.url(), hogs):
            pass
        row = await stack.notify(workflow=workflow)

        async def refused() -> bool:
            return "too many clients" in process.read_log() or "remaining connection slots" in process.read_log()

        await eventually(refused, f"a refused connection; log:\n{process.read_log()[-3000:]}")
        assert killed[0] > 0
        assert process.popen.poll() is None
    assert await stack.final(row) == ["SENT"]
    await proven(process, 2)
    await effects_are_exactly(stack, 3)


async def hogged(url: str, hogs: AsyncExitStack) -> bool:
    """Open one more connection until the stack ends; return whether it was accepted."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    except psycopg.OperationalError:
        return False
    hogs.push_async_callback(connection.close)
    return True


async def test_f11_full_notify_queue_is_logged_with_its_session(stack: Stack, own: OwnServer):
    own.stop()
    own.settings["max_notify_queue_pages"] = "64"
    own.start()
    await reconnect(stack, own.url())
    # Whose transaction it is, only a role that may see the others' activity can tell.
    process = await stack.running(DATABASE_URL=own.url(), **QUICK)
    await proven(process, 1)
    async with await psycopg.AsyncConnection.connect(own.url(), autocommit=True) as idler:
        await idler.execute("listen anything")
        await idler.execute("begin")
        pid = idler.info.backend_pid
        await idler.execute("select 1")

        async def full() -> bool:
            try:
                await stack.rows("select pg_notify('anything', repeat('x', 7000) || i) from generate_series(1, 20) i")
            except psycopg.errors.ProgramLimitExceeded:
                return True
            return False

        async def told() -> bool:
            return "notify_queue_fills" in process.read_log()

        assert await stack.value("select pg_notification_queue_usage()") < 0.01
        for _ in range(6):
            await full()
        await eventually(told, f"the warning; log:\n{process.read_log()[-2000:]}", 15)
        await eventually(full, "a full queue")
        [line] = [json.loads(line) for line in process.read_log().splitlines() if "notify_queue_fills" in line]
        assert (line["level"], line["blocking_pid"]) == ("warning", pid)
        assert line["usage"] >= 0.1

        async def refused() -> bool:
            try:
                await stack.notify()
            except psycopg.errors.ProgramLimitExceeded:
                return True
            return False  # no NOTIFY was needed: the dispatcher was awake

        await eventually(refused, "a producer that cannot commit, what the warning is about")
        await idler.execute("rollback")

    async def told_again() -> bool:
        return "notify_queue_empty" in process.read_log()

    await eventually(told_again, "the end of it", 30)
    assert process.read_log().count("notify_queue_fills") == 1
    assert await stack.final(await stack.notify(), within=10) == ["SENT"]
    assert await stack.value("select pg_notification_queue_usage()") < 0.01, "ours is never the cause"
