"""Clocks that are wrong: ours, the database's, and time zones of every kind. Only the database's clock decides."""

from pathlib import Path

import pytest
from facts import effects_are_exactly, proven
from house import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


def clock(offset: str) -> dict[str, str]:
    """Return what moves a process's clock; the monotonic one stays as it is."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.fail("libfaketime is missing: apt-get install faketime", pytrace=False)
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def scheduled(house: House, within: str) -> int:
    """Insert a row that is due in so long by the database's clock."""
    row = await house.notify(publish_status="DRAFT")
    await house.rows(
        "update notify.ent_notification set scheduled_for = clock_timestamp() + %s::interval,"
        " publish_status = 'PUBLISH' where id = %s",
        within,
        row,
    )
    return row


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_f140_our_clock_is_an_hour_off(house: House, offset: str):
    process = await house.running(**clock(offset), **QUICK)
    await proven(process, 1)
    started = next(line for line in process.words().splitlines() if '"started"' in line)
    told = await house.value("select abs(extract(epoch from clock_timestamp() - %s::timestamptz))", started[15:42])
    assert told > 3000, "the process's clock was moved"
    now, soon = await house.notify(), await scheduled(house, "2 s")
    assert await house.final(now, within=5) == ["SENT"]
    assert await house.final(soon, within=15) == ["SENT"]
    # Leases and retries are the database's too: a refused connection is tried again, and rescued by its lease.
    await house.burst(100)
    await house.all_sent(102)
    assert await house.value("select max(attempts) from dispatcher.delivery") == 1
    await effects_are_exactly(house, 102)


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "America/St_Johns", "Pacific/Kiritimati"])
async def test_f142_a_time_zone_of_ours_and_of_the_session(house: House, zone: str):
    name = house.url.rsplit("/", 1)[1]
    await house.rows(f"alter database {name} set timezone = '{zone}'")
    process = await house.running(TZ=zone, PGTZ=zone, **QUICK)
    await proven(process, 1)
    # The hour that is there twice and the one that is not there, both long ago; and one that comes.
    past = [
        await house.notify(scheduled_for="2026-04-05 01:45:00 Australia/Lord_Howe"),
        await house.notify(scheduled_for="2025-10-05 02:15:00 Australia/Lord_Howe"),
    ]
    soon = await scheduled(house, "1.5 s")
    far = await house.notify(scheduled_for="2999-01-01")
    assert await house.final(*past, soon, within=15) == ["SENT"] * 3
    assert await house.status(far) == "PENDING"
    await effects_are_exactly(house, 3)
