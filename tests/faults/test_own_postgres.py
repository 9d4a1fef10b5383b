"""Faults of a whole PostgreSQL server, each on a server of the test's own: ended, away, forgetful, out of time."""

import json
import re
import signal
import time
from collections import Counter

import pytest

from tests.faults.clocks import moved_clock, scheduled
from tests.faults.own_server import OwnServer, reconnect
from tests.faults.waits import effects_above, effects_are_exactly, proven
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s", "SUBSCRIPTION_RECONNECT_DELAY": "100"}


@pytest.fixture
def url(own: OwnServer) -> str:
    """The stack uses the test's own server."""
    return own.url()


async def seconds_for(stack: Stack, count: int) -> float:
    """Return how long a burst took until the last row was SENT."""
    before = (await stack.counts()).get("SENT", 0)
    started = time.monotonic()
    await stack.burst(count)
    await stack.all_sent(before + count)
    return time.monotonic() - started


async def test_f20_restarts_during_a_burst_lose_nothing(stack: Stack, own: OwnServer):
    process = await stack.running(**QUICK)
    before = await seconds_for(stack, 300)
    await stack.novu.configure(latency_ms=100)
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, without a word
        so_far = (await stack.novu.summary()).effects
        await stack.burst(500)
        await eventually(lambda: effects_above(stack, so_far + 50), "calls to Novu")  # noqa: B023  (awaited here)
        own.stop(how)
        own.start()
        await reconnect(stack, own.url())
    assert (await stack.counts()).get("SENT", 0) < 1800, "the servers ended too late to prove anything"
    started = time.monotonic()
    await stack.all_sent(1800, within=90)  # a call that was on its way is left alone for as long as it may take
    print(f"all sent {time.monotonic() - started:.1f} s after the server's last return")  # noqa: T201
    await stack.novu.configure(latency_ms=0)
    after = min([await seconds_for(stack, 300) for _ in range(3)])  # a neighbour may have the machine for a moment
    print(f"a burst of 300 took {before:.2f} s before and {after:.2f} s after")  # noqa: T201
    assert after < 3 * before + 1
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 2700)


async def test_f21_absent_server_is_waited_for(stack: Stack, own: OwnServer):
    process = await stack.running(**QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    own.stop()
    started, quiet = time.monotonic(), len(process.read_log().splitlines())

    async def a_while() -> bool:
        return time.monotonic() - started > 9

    await eventually(a_while, "nine seconds")
    lines = [json.loads(line) for line in process.read_log().splitlines()[quiet:]]
    print(Counter((line["component"], line["event"]) for line in lines))  # noqa: T201
    assert process.popen.poll() is None
    assert any(line["event"] == "database_unreachable" for line in lines)
    assert len(lines) < 40
    own.start()
    await reconnect(stack, own.url())
    row = await stack.notify()
    assert await stack.final(row, within=25) == ["SENT"]
    took = "select processed_at - created_at from notify.ent_notification where id = %s"
    print("sent after", await stack.value(took, row))  # noqa: T201
    await proven(process, 2)
    await effects_are_exactly(stack, 2)


async def test_f34_rotated_password_is_waited_for(stack: Stack, own: OwnServer):
    rules = own.folder / "data" / "pg_hba.conf"
    rules.write_text("host all app 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    await stack.rows("create role app superuser login password 'apple'")
    await stack.rows("select pg_reload_conf()")
    with_password = own.url("app:apple")
    process = await stack.running(DATABASE_URL=with_password)
    assert await stack.final(await stack.notify()) == ["SENT"]
    await stack.rows("alter role app password 'pear'")
    await stack.rows("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
    row = await stack.notify()
    failed = re.compile("password authentication failed")

    async def refused() -> bool:
        return bool(failed.search(own.read_log()))

    await eventually(refused, "a refused connection")
    started = time.monotonic()

    async def a_while() -> bool:
        return time.monotonic() - started > 10

    await eventually(a_while, "ten seconds")
    tries = len(failed.findall(own.read_log()))
    print(f"{tries} tries in 10 s")  # noqa: T201
    assert tries <= 30  # each of the lost connections once or twice, then the loops with their own pauses
    assert process.popen.poll() is None
    assert "apple" not in process.read_log()
    await stack.rows("alter role app password 'apple'")
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 2)


async def test_f32_asynchronous_commit_loses_nothing_of_ours(stack: Stack, own: OwnServer):
    await stack.rows("alter system set synchronous_commit = off")
    await stack.rows("alter system set wal_writer_delay = '10s'")
    await stack.rows("select pg_reload_conf()")
    process = await stack.running(SUBSCRIPTION_RECONNECT_DELAY="100")  # few writes of ours between the next two lines
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    await stack.rows("create table oracle.forgotten ()")
    own.stop(signal.SIGKILL)
    own.start()
    await reconnect(stack, own.url())
    assert await stack.value("select to_regclass('oracle.forgotten') is null"), "what did not wait is lost"
    assert await stack.status(row) == "SENT", "ours waited"
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 2)


async def test_f141_database_clock_set_back_sends_once(stack: Stack, own: OwnServer):
    clock = own.folder / "clock"
    clock.write_text("+0")
    own.stop()
    own.environment = moved_clock(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")
    own.start()
    await reconnect(stack, own.url())
    process = await stack.running(**QUICK)
    await proven(process, 1)
    await stack.novu.configure(latency_ms=1500)
    on_its_way, soon = await stack.notify(), await scheduled(stack, "3 s")
    sending = "select count(*) from dispatcher.recipient where state = 'sending'"
    await eventually(lambda: stack.value(sending), "a call on its way")
    before = await stack.value("select clock_timestamp()")
    clock.write_text("-600")
    assert await stack.value("select clock_timestamp() < %s - interval '9 min'", before), "the clock went back"
    after = await stack.notify()
    assert await stack.final(on_its_way, after, within=20) == ["SENT", "SENT"]
    assert await stack.status(soon) == "PENDING", "not yet, by that clock"
    clock.write_text("+0")
    assert await stack.final(soon, within=20) == ["SENT"]
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 3)
    # The invariants compare the ledger's times with Novu's, whose clock was right all the time.
    late = "update dispatcher.delivery set settled_at = settled_at + interval '600 s' where settled_at < %s"
    await stack.rows(late, before)
