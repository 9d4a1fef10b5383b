"""Measures a burst: one statement inserts many rows; how long until Novu accepted all, and until all are final.

Rates count from the moment COMMIT returned. Only one contestant's process runs at a time. Slow contestants may get
fewer rows: their rate does not depend on the number, and the result names it.
"""

from dataclasses import dataclass

from bench.block import Block, block, until
from bench.contestants import DISPATCHER, ONE_BY_ONE, PEERS, Contestant
from bench.stack import Say, Stack
from bench.writer import committed_at, finished

WARM_UP = 10
WARM_UP_SECONDS = 30.0
SECONDS = 120.0


@dataclass(frozen=True)
class Burst:
    """The rates of one contestant, in rows per second."""

    rows: int
    accepted_per_second: float
    final_per_second: float


async def measure(stack: Stack, rows: int, peer_rows: int, solo_rows: int, say: Say) -> dict[str, Burst]:
    """Return the burst of each contestant."""
    sizes: list[tuple[Contestant, int]] = [(DISPATCHER, rows), *((peer, peer_rows) for peer in PEERS)]
    found: dict[str, Burst] = {}
    for contestant, size in [*sizes, (ONE_BY_ONE, solo_rows)]:
        found[contestant.name] = await one_block(stack, contestant, size)
        say(f"burst {contestant.name}: {size} rows, {found[contestant.name].accepted_per_second:.0f}/s")
    return found


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> Burst:
    """Return the burst of one contestant, after a few rows to warm up."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        return await burst(running, rows)


async def warmed_up(running: Block) -> None:
    """Write a few rows, one by one, and return when they are final."""
    for _ in range(WARM_UP):
        await running.write(1)
        await running.accepted(WARM_UP_SECONDS)
    await final(running)


async def burst(running: Block, rows: int) -> Burst:
    """Write `rows` rows at once and return their rates."""
    written = await running.write(rows)
    await running.accepted(SECONDS)
    accepted = max(request.started_at for request in await running.novu.requests())
    # Query only now, so that counting does not slow down the burst; the database has the time of the last row.
    await final(running)
    return Burst(rows, rows / (accepted - written.committed), rows / (await last_final(running) - written.committed))


async def final(running: Block) -> None:
    """Return once every row written so far is final; TimeoutError after `SECONDS`."""

    async def all_final() -> bool:
        return await finished(running.connection) >= running.written

    await until(all_final, SECONDS, f"{running.contestant.name}: {running.written} rows final")


async def last_final(running: Block) -> float:
    """Return the time at which the last row became final, in epoch seconds."""
    return max((await committed_at(running.connection)).values())
