"""Faults of a whole PostgreSQL server, each on a server of the test's own: ended, away, forgetful, out of time."""

import json
import re
import signal
import time
from collections import Counter

import pytest
from clocks import moved_clock, scheduled
from facts import effects_above, effects_are_exactly, proven
from house import House, eventually
from own_server import OwnServer, reconnect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s", "SUBSCRIPTION_RECONNECT_DELAY": "100"}


@pytest.fixture
def url(own: OwnServer) -> str:
    """The house stands on the test's own server."""
    return own.url()


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
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, without a word
        so_far = (await house.novu.summary()).effects
        await house.burst(500)
        await eventually(lambda: effects_above(house, so_far + 50), "calls to Novu")  # noqa: B023  (awaited here)
        own.stop(how)
        own.start()
        await reconnect(house, own.url())
    assert (await house.counts()).get("SENT", 0) < 1800, "the servers ended too late to prove anything"
    started = time.monotonic()
    await house.all_sent(1800, within=90)  # a call that was on its way is left alone for as long as it may take
    print(f"all sent {time.monotonic() - started:.1f} s after the server's last return")  # noqa: T201
    await house.novu.configure(latency_ms=0)
    after = min([await seconds_for(house, 300) for _ in range(3)])  # a neighbour may have the machine for a moment
    print(f"a burst of 300 took {before:.2f} s before and {after:.2f} s after")  # noqa: T201
    assert after < 3 * before + 1
    assert process.popen.poll() is None
    await effects_are_exactly(house, 2700)


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


async def test_f141_the_database_s_clock_goes_back(house: House, own: OwnServer):
    clock = own.folder / "clock"
    clock.write_text("+0")
    own.stop()
    own.environment = moved_clock(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")
    own.start()
    await reconnect(house, own.url())
    process = await house.running(**QUICK)
    await proven(process, 1)
    await house.novu.configure(latency_ms=1500)
    on_its_way, soon = await house.notify(), await scheduled(house, "3 s")
    sending = "select count(*) from dispatcher.recipient where state = 'sending'"
    await eventually(lambda: house.value(sending), "a call on its way")
    before = await house.value("select clock_timestamp()")
    clock.write_text("-600")
    assert await house.value("select clock_timestamp() < %s - interval '9 min'", before), "the clock went back"
    after = await house.notify()
    assert await house.final(on_its_way, after, within=20) == ["SENT", "SENT"]
    assert await house.status(soon) == "PENDING", "not yet, by that clock"
    clock.write_text("+0")
    assert await house.final(soon, within=20) == ["SENT"]
    assert process.popen.poll() is None
    await effects_are_exactly(house, 3)
    # The invariants compare the ledger's times with Novu's, whose clock was right all the time.
    late = "update dispatcher.delivery set settled_at = settled_at + interval '600 s' where settled_at < %s"
    await house.rows(late, before)
