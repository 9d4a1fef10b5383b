"""Measures what a contestant costs while it is idle, and how long it takes to be ready. Reads /proc: Linux only.

The other contestants are measured for comparison: most of the floor's memory is that of the Temporal client.
"""

import asyncio
import os
import time
from pathlib import Path

from bench.block import block
from bench.contestants import Contestant
from bench.figures import Value, Values
from bench.stack import Stack

MEMORY, PROCESSOR, READY = "idle memory", "idle processor", "ready"
SETTLE_SECONDS = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


async def one_block(stack: Stack, contestant: Contestant, seconds: float) -> Values:
    """Return resident memory, processor time as a share of one core, and the time from the start until ready."""
    async with block(stack, contestant) as running:
        await asyncio.sleep(SETTLE_SECONDS)
        began, used = time.monotonic(), processor_seconds(running.process.pid)
        await asyncio.sleep(seconds)
        share = (processor_seconds(running.process.pid) - used) / (time.monotonic() - began)
        return {
            MEMORY: Value(memory_mb(running.process.pid), "MB"),
            PROCESSOR: Value(100 * share, "% of a core"),
            READY: Value(running.ready_seconds, "s"),
        }


def processor_seconds(pid: int) -> float:
    """Return the processor time a process used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int, kind: str = "VmRSS") -> float:
    """Return the resident memory of a process; of kind VmHWM, its peak so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(line for line in lines if line.startswith(f"{kind}:"))
    return int(resident.split()[1]) / 1024
