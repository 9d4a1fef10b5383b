"""Faults of Novu: what it answers, when, and whether it did what it was asked."""

import asyncio
import os
import signal
from random import Random
from typing import Any

import httpx

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.injections import injection, met
from tests.chaos.process_faults import state_of
from tests.support.waits import last_value

RULES: dict[str, dict[str, Any]] = {
    "Novu 500": {"kind": "status", "status": 500},
    "Novu 502": {"kind": "html"},
    "Novu 503": {"kind": "status", "status": 503, "retry_after": "1"},
    "Novu 429": {"kind": "status", "status": 429, "retry_after": "1"},
    "Novu 409": {"kind": "status", "status": 409, "retry_after": "1"},
    "Novu 401": {"kind": "status", "status": 401, "path": "/v1/events/trigger"},
    "Novu remembers a 500": {"kind": "cached_status"},
    "Novu did it and never answers": {"kind": "silent"},
    "Novu hangs": {"kind": "hang"},
    "Novu resets before": {"kind": "reset_before"},
    "Novu resets after": {"kind": "reset_after"},
    "Novu answers half": {"kind": "half_answer"},
    "Novu trickles headers": {"kind": "slow_headers", "seconds": 0.05},
    "Novu trickles the body": {"kind": "slow_body", "seconds": 0.05},
    "Novu answers nonsense": {"kind": "malformed"},
    "Novu answers an unknown status": {"kind": "unknown_status"},
    "Novu forgets half of a bulk": {"kind": "partial_bulk"},
    "Novu fails an item": {"kind": "item_error", "message": "Internal error"},
}
STRUCK_SECONDS = 15


@injection("Novu slow")
async def slow(environment: ChaosEnvironment, dice: Random) -> str:
    """Every answer takes a while."""
    latency, seconds = dice.randint(50, 2500), dice.uniform(3, 8)
    try:
        await environment.stack.novu.configure(latency_ms=latency)
        before = (await environment.stack.novu.summary()).requests
        await asyncio.sleep(seconds)
        asked = (await environment.stack.novu.summary()).requests - before
    finally:
        await environment.stack.novu.configure(latency_ms=0)
    met(asked, "nobody asked")
    return f"{latency} ms for {seconds:.1f} s, {asked} requests"


@injection("Novu paused")
async def paused(environment: ChaosEnvironment, dice: Random) -> str:
    """Novu's process is paused."""
    pid, seconds = environment.stack.novu.pid, dice.uniform(1, 4)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
        met(state_of(pid) == "T", "it did not stop")
    finally:
        os.kill(pid, signal.SIGCONT)
    return f"{seconds:.1f} s"


@injection("Novu's queue lags")
async def lagging(environment: ChaosEnvironment, dice: Random) -> str:
    """Novu accepts events and works on none of them for a while, so a look-up finds no run."""
    seconds = dice.uniform(10, 40)
    await environment.stack.novu.configure(worker_paused=True)
    try:
        await asyncio.sleep(seconds)
        waiting = (await environment.stack.novu.summary()).queued
    finally:
        await environment.stack.novu.configure(worker_paused=False)
    met(waiting, "nothing was queued")
    return f"{waiting} events waited {seconds:.1f} s"


def scripted(name: str, rule: dict[str, Any]) -> None:
    """Register a kind that adds a rule to the fake Novu and returns how many calls it matched."""

    @injection(name)
    async def strike(environment: ChaosEnvironment, dice: Random) -> str:
        times = dice.randint(1, 6)
        async with environment.rules:
            await environment.stack.novu.add_fault(**rule, times=times)
            place = len(await environment.stack.novu.fault_counts()) - 1

        async def struck() -> int:
            try:
                return (await environment.stack.novu.fault_counts())[place]
            except httpx.HTTPError:  # paused meanwhile
                return 0

        count = await last_value(struck, STRUCK_SECONDS, every=0.05)
        met(count, "no call met it")
        return f"{count} of {times} calls so far"


for each_name, each_rule in RULES.items():
    scripted(each_name, each_rule)
