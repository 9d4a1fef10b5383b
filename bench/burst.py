"""Measures a burst: one statement inserts many rows; how long until Novu accepted all, and until all are final.

Rates count from the moment COMMIT returned. Only one contestant's process runs at a time. Slow contestants may get
fewer rows: their rate does not depend on the number, and the record names it.
"""

from dataclasses import dataclass

from bench.block import Block, block, until
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.stack import Stack
from bench.writer import committed_at, finished

ACCEPTED, FINAL = "burst accepted", "burst final"
WARM_UP = 10
WARM_UP_SECONDS = 30.0
SECONDS = 120.0


@dataclass(frozen=True)
class Burst:
    """The rates of one contestant, in rows per second."""

    accepted_per_second: float
    final_per_second: float


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> Values:
    """Return the burst of one contestant, after a few rows to warm up."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        found = await burst(running, rows)
    rates = {ACCEPTED: found.accepted_per_second, FINAL: found.final_per_second}
    return {name: Value(rate, "rows/s", Better.HIGHER) for name, rate in rates.items()}


async def warmed_up(running: Block) -> None:
    """Write a few rows, one by one, and return when they are final."""
    for _ in range(WARM_UP):
        await running.write(1)
        await running.accepted(WARM_UP_SECONDS)
    await final(running)


async def burst(running: Block, rows: int) -> Burst:
    """Write `rows` rows at once and return their rates."""
    committed, accepted = await accepted_burst(running, rows)
    # The database has the time of the last row.
    return Burst(rows / (accepted - committed), rows / (await last_final(running) - committed))


async def accepted_burst(running: Block, rows: int) -> tuple[float, float]:
    """Write `rows` rows at once; once they are final, return when COMMIT returned and when Novu accepted the last."""
    written = await running.write(rows)
    await running.accepted(SECONDS)
    accepted = max(request.started_at for request in await running.novu.requests())
    # Query only now, so that counting does not slow down the burst.
    await final(running)
    return written.committed, accepted


async def final(running: Block) -> None:
    """Return once every row written so far is final; TimeoutError after `SECONDS`."""

    async def all_final() -> bool:
        return await finished(running.connection) >= running.written + running.history

    await until(all_final, SECONDS, f"{running.contestant.name}: {running.written} rows final")


async def last_final(running: Block) -> float:
    """Return the time at which the last row became final, in epoch seconds."""
    return max((await committed_at(running.connection)).values())
