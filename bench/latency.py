"""Commit to Novu's request, one row at a time.

Blocks of the contestants alternate, so that noise of the machine hits all. Each block's first rows warm up and do not
count. Both ends are read from one clock: the writer's when COMMIT came back, the stand-in's when the request arrived.
"""

import asyncio
import random

from bench.block import Block, block
from bench.contestants import EVERYBODY, Contestant
from bench.stack import Say, Stack

WARM_UP = 10
UNDISTURBED_SECONDS = 0.04
"""Between a commit and our first question to the stand-in, which would otherwise disturb what is measured."""
ROW_TIMEOUT_SECONDS = 30.0


async def measure(stack: Stack, rows: int, blocks: int, say: Say) -> dict[str, list[float]]:
    """Return the seconds of about `rows` rows per contestant."""
    found: dict[str, list[float]] = {contestant.name: [] for contestant in EVERYBODY}
    for number in range(blocks):
        for contestant in EVERYBODY:
            seconds = await one_block(stack, contestant, -(-rows // blocks))
            say(f"latency {number + 1}/{blocks} {contestant.name}: median {sorted(seconds)[len(seconds) // 2]:.4f} s")
            found[contestant.name] += seconds
    return found


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> list[float]:
    """Return the seconds of `rows` rows after the warm-up."""
    async with block(stack, contestant) as running:
        for _ in range(WARM_UP):
            await one_row(running)
        committed = dict([await one_row(running) for _ in range(rows)])
        arrived = {request.subscribers[0]: request.started_at for request in await stack.novu.requests()}
    return [arrived[recipient] - time for recipient, time in committed.items()]


async def one_row(running: Block) -> tuple[str, float]:
    """Write one row, and return it once it has arrived and the contestant had time to finish with it."""
    written = await running.write(1)
    await asyncio.sleep(UNDISTURBED_SECONDS)
    await running.accepted(ROW_TIMEOUT_SECONDS)
    await asyncio.sleep(random.uniform(0, 0.02))
    return written.recipients[0], written.committed
