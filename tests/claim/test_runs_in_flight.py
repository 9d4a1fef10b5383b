"""Rows gather while runs of this process are in flight: the wait ends with the last of them, and it has a bound."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from dispatcher.temporal.runs_in_flight import BLIND_GATHER_SECONDS, GATHER_SECONDS, RunsInFlight

SOON = 0.1


async def waited(runs: RunsInFlight) -> tuple[bool, float]:
    """Wait; return whether it had to, and how long it took."""
    began = time.monotonic()
    return await runs.wait_until_none(), time.monotonic() - began


async def beside(action: Coroutine[Any, Any, Any], runs: RunsInFlight) -> tuple[bool, float]:
    """Wait while something else happens."""
    task = asyncio.create_task(action)
    found = await waited(runs)
    await task
    return found


async def test_idle_node_does_not_wait():
    runs = RunsInFlight()
    assert await runs.wait_until_none() is False
    runs.add(["a"])
    runs.remove("a")
    assert await runs.wait_until_none() is False


async def test_wait_ends_with_the_last_run():
    runs = RunsInFlight(seconds=60)
    runs.add(["a", "b"])
    order: list[str] = []

    async def ends() -> None:
        for name in ("a", "unknown", "b"):
            await asyncio.sleep(0)
            order.append(name)
            runs.remove(name)

    waiting, seconds = await beside(ends(), runs)
    assert (waiting, order) == (True, ["a", "unknown", "b"])
    assert seconds < SOON


async def test_slow_run_delays_a_claim_by_a_bounded_time():
    runs = RunsInFlight(seconds=0.2)
    runs.add(["slow"])
    waiting, seconds = await waited(runs)
    assert waiting
    assert 0.1 < seconds < 5
    assert await runs.wait_until_none() is False, "it is forgotten, and the next claim does not wait for it"


async def test_bound_counts_from_the_last_start():
    runs = RunsInFlight(seconds=0.05)
    runs.add(["slow"])
    await asyncio.sleep(0.1)
    assert await runs.wait_until_none() is False, "the time is over"
    assert GATHER_SECONDS > BLIND_GATHER_SECONDS > 0


async def test_stop_ends_the_wait_and_all_later_ones():
    runs = RunsInFlight(seconds=60)
    runs.add(["a"])

    async def stop() -> None:
        runs.stop()

    _, seconds = await beside(stop(), runs)
    assert seconds < SOON
    runs.add(["b"])
    assert await runs.wait_until_none() is False
