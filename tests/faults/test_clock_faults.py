"""Our clock is wrong, and time zones are odd: only the database's clock decides."""

import re

import pytest

from tests.faults.clocks import moved_clock, scheduled
from tests.faults.waits import effects_are_exactly, proven
from tests.support.run_doctor import run_doctor
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_f140_our_clock_an_hour_off_changes_nothing(stack: Stack, offset: str):
    process = await stack.running(**moved_clock(FAKETIME=offset), **QUICK)
    await proven(process, 1)
    started = next(line for line in process.read_log().splitlines() if '"started"' in line)
    told = await stack.value("select abs(extract(epoch from clock_timestamp() - %s::timestamptz))", started[15:42])
    assert told > 3000, "the process's clock was moved"
    now, soon = await stack.notify(), await scheduled(stack, "2 s")
    assert await stack.final(now, within=15) == ["SENT"]
    assert await stack.final(soon, within=15) == ["SENT"]
    # Leases and retries are the database's too: a refused connection is tried again, and rescued by its lease.
    await stack.burst(100)
    await stack.all_sent(102)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    await effects_are_exactly(stack, 102)


async def test_f140_doctor_names_a_clock_that_is_an_hour_off(stack: Stack):
    found = await run_doctor(stack, **moved_clock(FAKETIME="+1h"))
    assert (found.code, found.checks["clock"]["verdict"]) == (0, "warn"), found
    said = re.fullmatch(r"PostgreSQL's is (\d+\.\d+) s behind ours", found.checks["clock"]["value"])
    assert said, found
    assert abs(float(said[1]) - 3600) < 60


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "America/St_Johns", "Pacific/Kiritimati"])
async def test_f142_time_zones_of_process_and_session_change_nothing(stack: Stack, zone: str):
    name = stack.url.rsplit("/", 1)[1]
    await stack.rows(f"alter database {name} set timezone = '{zone}'")
    process = await stack.running(TZ=zone, PGTZ=zone, **QUICK)
    await proven(process, 1)
    # The hour that is there twice and the one that is not there, both long ago; and one that comes.
    past = [
        await stack.notify(scheduled_for="2026-04-05 01:45:00 Australia/Lord_Howe"),
        await stack.notify(scheduled_for="2025-10-05 02:15:00 Australia/Lord_Howe"),
    ]
    soon = await scheduled(stack, "1.5 s")
    far = await stack.notify(scheduled_for="2999-01-01")
    assert await stack.final(*past, soon, within=15) == ["SENT"] * 3
    assert await stack.status(far) == "PENDING"
    await effects_are_exactly(stack, 3)
