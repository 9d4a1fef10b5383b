"""A steady stream: single commits of some enterprises at a fixed rate; how long each row takes from commit to SENT.

A seed decides the moments of the commits, so both contestants of a pair get the same ones. Each commit has its own slot
of equal length and a random moment inside it, so the commits cannot fall into step with a polling interval. A row is
SENT when PostgreSQL commits its last version.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection

from bench.block import Block, block
from bench.burst import final, warmed_up
from bench.contestants import Contestant
from bench.idle import processor_seconds
from bench.stack import Stack
from bench.verdict import Spread, spread
from bench.writer import committed_at, write

ENTERPRISES = 37
"""Their shares of the rows are Zipf's: the second has half as many rows as the first, the third a third."""
WRITERS = 8
"""Connections that share the stream, so that a slow commit does not delay the next one."""
LEAD_SECONDS = 2.0
"""Rows of these first seconds are not counted: the dispatcher is still changing from idle to busy."""


@dataclass(frozen=True)
class Load:
    """The rate, the seconds whose rows are counted, the seed of the moments, and the number of enterprises."""

    rows_per_second: int
    seconds: float
    seed: int
    enterprises: int = ENTERPRISES

    def commits(self) -> Iterator[tuple[float, uuid.UUID]]:
        """Return for each row the seconds since the start, and the enterprise."""
        dice = random.Random(self.seed)
        everybody = [uuid.uuid5(uuid.NAMESPACE_DNS, f"enterprise-{number}") for number in range(self.enterprises)]
        shares = [1 / number for number in range(1, self.enterprises + 1)]
        for number in range(round(self.rows_per_second * (LEAD_SECONDS + self.seconds))):
            yield (number + dice.random()) / self.rows_per_second, dice.choices(everybody, shares)[0]


@dataclass(frozen=True)
class Stream:
    """How one contestant took it."""

    sent: Spread
    written_per_second: float
    """Far below the wanted rate, the machine was too busy for this load."""
    unsent: int
    """Rows that were not SENT when the last one was committed. Many of them mean that the rate is more than the
    dispatcher can carry: then a queue grows, and the seconds say how long the stream was."""
    processor_ms_per_row: float


async def one_block(stack: Stack, contestant: Contestant, load: Load) -> Stream:
    """Return the stream of one contestant, measured after a few rows to warm up."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        used = processor_seconds(running.process.pid)
        began, committed = await counted(running, load)
        await final(running)
        used = processor_seconds(running.process.pid) - used
        sent = await committed_at(running.connection)
    seconds = [sent[recipient] - at for recipient, at in committed.items() if at >= began + LEAD_SECONDS]
    rate = len(committed) / (max(committed.values()) - began)
    unsent = sum(at > max(committed.values()) for at in sent.values())
    return Stream(spread(seconds), rate, unsent, 1000 * used / len(committed))


async def counted(running: Block, load: Load) -> tuple[float, dict[str, float]]:
    """Write the stream; return when it began, and what `written` returns."""
    return time.time(), await written(running, load)


async def written(running: Block, load: Load) -> dict[str, float]:
    """Write the stream; return by recipient when its COMMIT came back, in epoch seconds."""
    committed: dict[str, float] = {}
    commits, began = load.commits(), time.monotonic()

    async def writer(connection: AsyncConnection) -> None:
        for due, enterprise in commits:
            await asyncio.sleep(max(0, began + due - time.monotonic()))
            row = await write(connection, running.contestant.announce, 1, enterprise)
            committed[row.recipients[0]] = row.committed

    async with AsyncExitStack() as connections, asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            connection = await psycopg.AsyncConnection.connect(running.connection.info.dsn, autocommit=True)
            await connections.enter_async_context(connection)
            writers.create_task(writer(connection))
    running.written += len(committed)
    return committed
