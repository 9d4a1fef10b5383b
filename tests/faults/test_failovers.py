"""Another server takes over, and the one we know turns into a standby or is lost with its newest rows."""

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dispatcher.postgres.pool import CONNECTION_ERRORS
from dispatcher.postgres.session import POOL_SETTINGS, pinned_transaction
from tests.faults.own_server import OwnServer, reconnect
from tests.faults.waits import effects_are_exactly, posts, proven
from tests.support.proxy import FaultProxy, proxied
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SHORT_CALLS = (sys.executable, "-m", "tests.faults.run_with_fault", "short-calls", "4")
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s", "SUBSCRIPTION_RECONNECT_DELAY": "100"}


@pytest.fixture
def url(own: OwnServer) -> str:
    """The stack uses the test's own server."""
    return own.url()


@pytest.fixture
async def to_postgres(own: OwnServer) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", own.port) as proxy:
        yield proxy


def standby_of(primary: OwnServer, folder: Path) -> OwnServer:
    """Return a standby that has caught up with the primary so far; the caller starts and stops it."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    standby = OwnServer(folder)
    conninfo = f"host=127.0.0.1 port={primary.port} user=postgres"
    standby.run("pg_basebackup", "-D", str(folder / "data"), "-R", "-c", "fast", "-d", conninfo, "--no-sync")
    return standby


@pytest.fixture
def standby(own: OwnServer, stack_folder: Path) -> Iterator[OwnServer]:
    server = standby_of(own, stack_folder / f"standby-{own.port}")
    server.start()
    yield server
    server.stop(signal.SIGQUIT)


async def at(server: OwnServer, statement: bytes) -> Any:
    """Run a statement at another server than the stack's; return its only value, if any."""
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return (await cursor.fetchone() or [None])[0] if cursor.description else None


async def cut_off(standby: OwnServer, stack: Stack) -> None:
    """Let the standby catch up, and hear nothing of its primary from then on."""
    position = str(await stack.value("select pg_current_wal_lsn()")).encode()

    async def caught_up() -> bool:
        return await at(standby, b"select pg_last_wal_replay_lsn() >= '" + position + b"'")

    await eventually(caught_up, "a standby that has caught up")
    await at(standby, b"alter system set primary_conninfo = ''")
    await at(standby, b"select pg_reload_conf()")

    async def hears_nothing() -> bool:
        return await stack.value("select count(*) from pg_stat_replication") == 0

    await eventually(hears_nothing, "a standby that hears no more")


async def test_f24_socket_to_a_standby_is_replaced(
    own: OwnServer, standby: OwnServer, stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    process = await stack.running(DATABASE_URL=proxied_url, **QUICK)
    to_postgres.lead_to("127.0.0.1", standby.port)
    to_postgres.reset()

    async def refused() -> bool:
        return "read-only transaction" in process.read_log()

    await eventually(refused, "a refused write")
    assert "the server is a standby, which takes no changes" in process.read_log()
    row = await stack.notify()
    to_postgres.lead_to("127.0.0.1", own.port)  # for new connections; the open ones stay, and stay healthy
    assert await stack.final(row, within=25) == ["SENT"]
    took = "select processed_at - created_at from notify.ent_notification where id = %s"
    print("sent after", await stack.value(took, row))  # noqa: T201
    assert process.popen.poll() is None
    await proven(process, 1)
    await effects_are_exactly(stack, 1)


async def test_f217_standby_behind_a_pooler_is_named(standby: OwnServer):
    """A pooler's session is told to begin READ WRITE transactions, which a standby refuses in other words."""
    async with await psycopg.AsyncConnection.connect(standby.url(), autocommit=True) as connection:
        await connection.set_read_only(False)
        with pytest.raises(CONNECTION_ERRORS, match="is a standby, which takes no changes"):
            async with pinned_transaction(connection, POOL_SETTINGS):
                pass


async def test_f23_failover_that_loses_rows_sends_none_of_them(
    own: OwnServer,
    standby: OwnServer,
    stack: Stack,
    to_postgres: FaultProxy,
    to_novu: FaultProxy,
    proxied_url: str,
):
    through = {"DATABASE_URL": proxied_url, "NOVU_API_URL": f"http://127.0.0.1:{to_novu.port}"}
    # A row that commits before the loss is noticed is looked up first, here 5.5 s later.
    process = await stack.running(SHORT_CALLS, **through, **QUICK)
    survivor = await stack.notify()
    assert await stack.final(survivor) == ["SENT"]
    await cut_off(standby, stack)
    # Claimed and started, and their calls cannot leave.
    await to_novu.refuse()
    to_novu.reset()
    lost = [await stack.notify() for _ in range(3)]
    tried = "select count(*) from dispatcher.recipient where outcome = 'not_sent'"

    async def all_tried() -> bool:
        return await stack.value(tried) == 3

    await eventually(all_tried, "calls that could not leave")
    await at(standby, b"select pg_promote()")
    to_postgres.lead_to("127.0.0.1", standby.port)
    own.stop(signal.SIGKILL)
    await reconnect(stack, standby.url())
    assert await stack.rows("select from notify.ent_notification where id = any(%s)", lost) == []
    await to_novu.open()
    later = await stack.notify()
    assert await stack.final(later, within=30) == ["SENT"]
    await proven(process, 2)
    assert await stack.status(survivor) == "SENT"
    calls = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert len(calls) == 2, "no call for a row that is gone"
    await effects_are_exactly(stack, 2)


async def test_f183_failover_that_loses_the_ledger_repeats_no_call(
    own: OwnServer, standby: OwnServer, stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    """The standby has the rows, and nothing of their claims and calls."""
    await stack.burst(250)
    await cut_off(standby, stack)
    # A tenth of the times of a call: an open call is over, and its run visible, after 5.5 s instead of 55.
    process = await stack.running(SHORT_CALLS, DATABASE_URL=proxied_url, **QUICK)
    await stack.all_sent(250)
    calls = len(await posts(stack))
    await at(standby, b"select pg_promote()")
    to_postgres.lead_to("127.0.0.1", standby.port)
    own.stop(signal.SIGKILL)
    await reconnect(stack, standby.url())
    assert sum((await stack.counts()).values()) == 250, "the rows are there"
    assert await stack.value("select count(*) from dispatcher.recipient") == 0, "their calls are not"

    async def loss_noticed() -> bool:
        return '"database_lost_commits"' in process.read_log()

    await eventually(loss_noticed, "a noticed loss")
    later = await stack.notify()
    assert await stack.final(later, within=30) == ["SENT"]
    await stack.all_sent(251)
    assert len(await posts(stack)) == calls + 1, "one for the row that was committed later"
    await effects_are_exactly(stack, 251)
    assert process.read_log().count('"database_lost_commits"') == 1
    at_once = "select processed_at - created_at < interval '5 s' from notify.ent_notification where id = %s"
    assert await stack.value(at_once, later), "a row committed later waits for no look-up"
