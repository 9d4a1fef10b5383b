"""Measures the time from commit to Novu's request, one row at a time.

Blocks of the contestants alternate, so that noise of the machine affects all alike. The first rows of each block warm
up and do not count. Both times come from one clock: the writer's when COMMIT returned, the fake Novu's when the request
arrived.
"""

import asyncio
import random

from bench.block import Block, block
from bench.contestants import Contestant
from bench.figures import Value, Values
from bench.stack import Stack
from bench.verdict import spread

P50, P99 = "latency p50", "latency p99"
WARM_UP = 10
UNDISTURBED_SECONDS = 0.04
"""Pause between a commit and our first request to the fake Novu, which would disturb the measurement."""
ROW_TIMEOUT_SECONDS = 30.0


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> Values:
    """Return the percentiles of `rows` rows after the warm-up."""
    async with block(stack, contestant) as running:
        for _ in range(WARM_UP):
            await one_row(running)
        committed = dict([await one_row(running) for _ in range(rows)])
        arrived = {request.subscribers[0]: request.started_at for request in await stack.novu.requests()}
    found = spread([arrived[recipient] - time for recipient, time in committed.items()])
    return {P50: Value(found.p50_ms, "ms"), P99: Value(found.p99_ms, "ms")}


async def one_row(running: Block) -> tuple[str, float]:
    """Write one row; return its recipient and commit time once it has arrived and the contestant had time to finish."""
    written = await running.write(1)
    await asyncio.sleep(UNDISTURBED_SECONDS)
    await running.accepted(ROW_TIMEOUT_SECONDS)
    await asyncio.sleep(random.uniform(0, 0.02))
    return written.recipients[0], written.committed
