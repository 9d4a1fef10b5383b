"""Clocks that are wrong on purpose."""

from pathlib import Path

import pytest

from tests.support.stack import Stack


def moved_clock(**how: str) -> dict[str, str]:
    """Return what moves a process's clock; the monotonic one stays as it is."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.fail("libfaketime is missing: apt-get install faketime", pytrace=False)
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **how}


async def scheduled(stack: Stack, within: str) -> int:
    """Insert a row that is due in so long by the database's clock."""
    row = await stack.notify(publish_status="DRAFT")
    await stack.rows(
        "update notify.ent_notification set scheduled_for = clock_timestamp() + %s::interval,"
        " publish_status = 'PUBLISH' where id = %s",
        within,
        row,
    )
    return row
