"""Faults of a whole PostgreSQL server, each on a server of the test's own: ended, away, full of sessions, replaced."""

import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from facts import effects_are_exactly, proven
from house import House, eventually, open_house, quiet
from invariants import broken, load_oracle
from own_server import OwnServer, copy_of, reconnect
from proxy import FaultProxy, proxied

from dispatcher.devstack import postgres
from dispatcher.devstack.standin.process import Standin
from dispatcher.devstack.temporal import TemporalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s", "SUBSCRIPTION_RECONNECT_DELAY": "100"}


@pytest.fixture
def url(own: OwnServer) -> str:
    """The house stands on the test's own server."""
    return own.url()


@pytest.fixture
async def to_postgres(own: OwnServer) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", own.port) as proxy:
        yield proxy


async def seconds_for(house: House, count: int) -> float:
    """Return how long a burst took until the last row was SENT."""
    before = (await house.counts()).get("SENT", 0)
    started = time.monotonic()
    await house.burst(count)
    await house.all_sent(before + count)
    return time.monotonic() - started


async def test_f20_restarts_in_a_burst(house: House, own: OwnServer):
    process = await house.running(**QUICK)
    before = await seconds_for(house, 300)
    await house.novu.configure(latency_ms=100)
    sent = 300
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, without a word
        await house.burst(400)
        await eventually(lambda: effects_above(house, sent + 100), "calls to Novu")  # noqa: B023  (awaited here)
        own.stop(how)
        own.start()
        await reconnect(house, own.url())
        sent += 400
        assert (await house.counts()).get("SENT", 0) < sent, "the server ended too late to prove anything"
        started = time.monotonic()
        await house.all_sent(sent)
        print(f"{how.name}: all sent {time.monotonic() - started:.1f} s after the server's return")  # noqa: T201
    await house.novu.configure(latency_ms=0)
    after = await seconds_for(house, 300)
    print(f"a burst of 300 took {before:.2f} s before and {after:.2f} s after")  # noqa: T201
    assert after < 3 * before + 1
    assert process.popen.poll() is None
    await effects_are_exactly(house, sent + 300)


async def effects_above(house: House, least: int) -> bool:
    return (await house.novu.summary()).effects > least


async def test_f21_a_server_that_is_away(house: House, own: OwnServer):
    process = await house.running(**QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    own.stop()
    started, quiet = time.monotonic(), len(process.words().splitlines())

    async def a_while() -> bool:
        return time.monotonic() - started > 9

    await eventually(a_while, "nine seconds")
    lines = [json.loads(line) for line in process.words().splitlines()[quiet:]]
    print(Counter((line["component"], line["event"]) for line in lines))  # noqa: T201
    assert process.popen.poll() is None
    assert any(line["event"] == "database_unreachable" for line in lines)
    assert len(lines) < 40
    own.start()
    await reconnect(house, own.url())
    row = await house.notify()
    assert await house.final(row, within=25) == ["SENT"]
    took = "select processed_at - created_at from notify.ent_notification where id = %s"
    print("sent after", await house.value(took, row))  # noqa: T201
    await proven(process, 2)
    await effects_are_exactly(house, 2)


async def test_f29_no_connection_is_left(house: House, own: OwnServer):
    process = await house.running(**QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    async with AsyncExitStack() as hogs:
        workflow = await house.workflow()
        while await hogged(own.url(), hogs):
            pass
        # What we hold is enough to go on.
        assert await house.final(await house.notify(workflow=workflow)) == ["SENT"]
        ours = "from pg_stat_activity where application_name = 'dispatcher'"
        [killed] = await house.rows(f"select count(pg_terminate_backend(pid)) {ours}")
        while await hogged(own.url(), hogs):
            pass
        row = await house.notify(workflow=workflow)

        async def refused() -> bool:
            return "too many clients" in process.words() or "remaining connection slots" in process.words()

        await eventually(refused, f"a refused connection; log:\n{process.words()[-3000:]}")
        assert killed[0] > 0
        assert process.popen.poll() is None
    assert await house.final(row) == ["SENT"]
    await proven(process, 2)
    await effects_are_exactly(house, 3)


async def hogged(url: str, hogs: AsyncExitStack) -> bool:
    """Take one more connection, for as long as the stack lives; return whether there was one."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    except psycopg.OperationalError:
        return False
    hogs.push_async_callback(connection.close)
    return True


async def test_f34_a_password_that_was_rotated(house: House, own: OwnServer):
    rules = own.folder / "data" / "pg_hba.conf"
    rules.write_text("host all app 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    await house.rows("create role app superuser login password 'apple'")
    await house.rows("select pg_reload_conf()")
    with_password = own.url("app:apple")
    process = await house.running(DATABASE_URL=with_password)
    assert await house.final(await house.notify()) == ["SENT"]
    await house.rows("alter role app password 'pear'")
    await house.rows("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
    row = await house.notify()
    failed = re.compile("password authentication failed")

    async def refused() -> bool:
        return bool(failed.search(own.words()))

    await eventually(refused, "a refused connection")
    started = time.monotonic()

    async def a_while() -> bool:
        return time.monotonic() - started > 10

    await eventually(a_while, "ten seconds")
    tries = len(failed.findall(own.words()))
    print(f"{tries} tries in 10 s")  # noqa: T201
    assert tries <= 30  # each of the lost connections once or twice, then the loops with their own pauses
    assert process.popen.poll() is None
    assert "apple" not in process.words()
    await house.rows("alter role app password 'apple'")
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 2)


async def test_f11_somebody_fills_the_queue_of_notifications(house: House, own: OwnServer):
    own.stop()
    own.settings["max_notify_queue_pages"] = "64"
    own.start()
    await reconnect(house, own.url())
    process = await house.running(**QUICK)
    await proven(process, 1)
    async with await psycopg.AsyncConnection.connect(own.url(), autocommit=True) as idler:
        await idler.execute("listen anything")
        await idler.execute("begin")
        pid = idler.info.backend_pid
        await idler.execute("select 1")

        async def full() -> bool:
            try:
                await house.rows("select pg_notify('anything', repeat('x', 7000) || i) from generate_series(1, 20) i")
            except psycopg.errors.ProgramLimitExceeded:
                return True
            return False

        async def told() -> bool:
            return "notify_queue_fills" in process.words()

        assert await house.value("select pg_notification_queue_usage()") < 0.01
        for _ in range(6):
            await full()
        await eventually(told, f"the warning; log:\n{process.words()[-2000:]}", 15)
        await eventually(full, "a full queue")
        [line] = [json.loads(line) for line in process.words().splitlines() if "notify_queue_fills" in line]
        assert (line["level"], line["blocking_pid"]) == ("warning", pid)
        assert line["usage"] >= 0.1
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):  # what the warning is about
            await house.notify()
        await idler.execute("rollback")

    async def told_again() -> bool:
        return "notify_queue_empty" in process.words()

    await eventually(told_again, "the end of it", 30)
    assert process.words().count("notify_queue_fills") == 1
    assert await house.final(await house.notify(), within=10) == ["SENT"]
    assert await house.value("select pg_notification_queue_usage()") < 0.01, "ours is never the cause"


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
    """Run a statement at another server than the house's; return its only value, if any."""
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return (await cursor.fetchone() or [None])[0] if cursor.description else None


async def test_f24_a_live_socket_to_a_server_that_is_no_primary(
    own: OwnServer, standby: OwnServer, house: House, to_postgres: FaultProxy, proxied_url: str
):
    to_postgres.lead_to("127.0.0.1", standby.port)
    process = house.start(DATABASE_URL=proxied_url, **QUICK)

    async def refused() -> bool:
        return "read-only transaction" in process.words()

    await eventually(refused, f"a refused write; log:\n{process.words()}")
    row = await house.notify()
    to_postgres.lead_to("127.0.0.1", own.port)  # for new connections; the open ones stay, and stay healthy
    assert await house.final(row, within=25) == ["SENT"]
    took = "select processed_at - created_at from notify.ent_notification where id = %s"
    print("sent after", await house.value(took, row))  # noqa: T201
    assert process.popen.poll() is None
    await proven(process, 1)
    await effects_are_exactly(house, 1)


async def test_f23_a_failover_that_loses_the_newest_rows(
    own: OwnServer,
    standby: OwnServer,
    house: House,
    to_postgres: FaultProxy,
    to_novu: FaultProxy,
    proxied_url: str,
):
    through = {"DATABASE_URL": proxied_url, "NOVU_API_URL": f"http://127.0.0.1:{to_novu.port}"}
    process = await house.running(**through, **QUICK)
    survivor = await house.notify()
    assert await house.final(survivor) == ["SENT"]
    position = str(await house.value("select pg_current_wal_lsn()")).encode()

    async def caught_up() -> bool:
        return await at(standby, b"select pg_last_wal_replay_lsn() >= '" + position + b"'")

    await eventually(caught_up, "a standby that has caught up")
    await at(standby, b"alter system set primary_conninfo = ''")
    await at(standby, b"select pg_reload_conf()")

    async def cut_off() -> bool:
        return await house.value("select count(*) from pg_stat_replication") == 0

    await eventually(cut_off, "a standby that hears no more")
    # Claimed and started, and their calls cannot leave.
    to_novu.refuse()
    to_novu.reset()
    lost = [await house.notify() for _ in range(3)]
    tried = "select count(*) from dispatcher.recipient where outcome = 'not_sent'"

    async def all_tried() -> bool:
        return await house.value(tried) == 3

    await eventually(all_tried, "calls that could not leave")
    await at(standby, b"select pg_promote()")
    to_postgres.lead_to("127.0.0.1", standby.port)
    own.stop(signal.SIGKILL)
    await reconnect(house, standby.url())
    assert await house.rows("select from notify.ent_notification where id = any(%s)", lost) == []
    await to_novu.open()
    later = await house.notify()
    assert await house.final(later, within=30) == ["SENT"]
    await proven(process, 2)
    assert await house.status(survivor) == "SENT"
    calls = [request for request in await house.novu.requests() if request.method == "POST"]
    assert len(calls) == 2, "no call for a row that is gone"
    await effects_are_exactly(house, 2)


async def test_f32_a_database_that_does_not_wait_for_its_disk(house: House, own: OwnServer):
    await house.rows("alter system set synchronous_commit = off")
    await house.rows("alter system set wal_writer_delay = '10s'")
    await house.rows("select pg_reload_conf()")
    process = await house.running(SUBSCRIPTION_RECONNECT_DELAY="100")  # few writes of ours between the next two lines
    row = await house.notify()
    assert await house.final(row) == ["SENT"]
    await house.rows("create table oracle.forgotten ()")
    own.stop(signal.SIGKILL)
    own.start()
    await reconnect(house, own.url())
    assert await house.value("select to_regclass('oracle.forgotten') is null"), "what did not wait is lost"
    assert await house.status(row) == "SENT", "ours waited"
    assert await house.final(await house.notify()) == ["SENT"]
    assert process.popen.poll() is None
    await effects_are_exactly(house, 2)


@contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """Hand out a folder on a disk of this size."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.fail("a small disk needs mount: run as root", pytrace=False)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def cramped(cluster: Path, stack_folder: Path) -> Iterator[OwnServer]:
    """A server on a small disk."""
    with (
        small_disk(stack_folder / "small-disk", "256m") as folder,
        copy_of(cluster, folder / "server") as server,
    ):
        server.settings |= {"max_wal_size": "48MB", "min_wal_size": "32MB"}
        server.start()
        yield server


async def test_f30_a_full_disk(cramped: OwnServer, temporal_server: TemporalServer, novu: Standin, tmp_path: Path):
    async with open_house(cramped.url(), temporal_server.address, novu, tmp_path) as house:
        process = await house.running(**QUICK)
        await novu.configure(latency_ms=100)
        await house.burst(3000)
        await eventually(lambda: effects_above(house, 200), "calls to Novu")
        ballast = cramped.folder / "ballast"
        filled_up(ballast)

        async def complained() -> bool:
            return "No space left on device" in cramped.words()

        await eventually(complained, "a server that finds no space")
        sent = (await novu.summary()).effects
        ballast.unlink()
        assert sent < 3000, "the burst was over before the disk was full"
        if not cramped.runs:
            cramped.start()
        await eventually(lambda: answers(cramped), "the server to be back")
        await reconnect(house, cramped.url())
        await house.all_sent(3000)
        assert process.popen.poll() is None
        await quiet(house)
        await load_oracle(house.connection, novu)
        assert await broken(house.connection) == {}
        await effects_are_exactly(house, 3000)


def filled_up(ballast: Path) -> None:
    """Take all the space there is."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(65536)):
            pass


async def answers(server: OwnServer) -> bool:
    return postgres.accepts(server.url())
