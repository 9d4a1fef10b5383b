"""Measures what a contestant costs while it is idle, and how long it takes to be ready. Reads /proc: Linux only.

The other contestants are measured for comparison: most of the floor's memory is that of the Temporal client.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.block import block
from bench.contestants import EVERYBODY, Contestant
from bench.stack import Say, Stack

SETTLE_SECONDS = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Idle:
    """Resident memory in MB, CPU as a share of one core, and seconds from the start of the process until ready."""

    memory_mb: float
    core_share: float
    ready_seconds: float


async def measure(stack: Stack, seconds: float, say: Say) -> dict[str, Idle]:
    """Return every contestant's idle cost over `seconds`."""
    found: dict[str, Idle] = {}
    for contestant in EVERYBODY:
        found[contestant.name] = await one_block(stack, contestant, seconds)
        say(f"idle {contestant.name}: {found[contestant.name].memory_mb:.0f} MB")
    return found


async def one_block(stack: Stack, contestant: Contestant, seconds: float) -> Idle:
    """Return the idle cost of one contestant."""
    async with block(stack, contestant) as running:
        await asyncio.sleep(SETTLE_SECONDS)
        began, used = time.monotonic(), processor_seconds(running.process.pid)
        await asyncio.sleep(seconds)
        share = (processor_seconds(running.process.pid) - used) / (time.monotonic() - began)
        return Idle(memory_mb(running.process.pid), share, running.ready_seconds)


def processor_seconds(pid: int) -> float:
    """Return the processor time a process used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(line for line in lines if line.startswith("VmRSS:"))
    return int(resident.split()[1]) / 1024
