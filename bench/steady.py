"""Measures steady streams of single commits at several rates, of one enterprise and of 37.

One process of the contestant takes all rates, one after the other, the lowest first: a latency that grows with the rate
and falls again at a higher one is a hump, which no burst and no single row would show.
"""

from dataclasses import dataclass

from bench import stream
from bench.block import Block, block
from bench.burst import final, warmed_up
from bench.contestants import Contestant
from bench.stack import Say, Stack
from bench.verdict import Spread, spread
from bench.writer import committed_at

RATES = (20, 50, 100, 200, 400)
"""Commits per second."""
ENTERPRISES = (1, 37)


@dataclass(frozen=True)
class Point:
    """One rate: the times from the commit to SENT and to Novu's request."""

    enterprises: int
    rows_per_second: int
    sent: Spread
    called: Spread
    unsent: int
    """Rows that were not SENT when the last one was committed."""

    @property
    def words(self) -> str:
        """The point in one line."""
        return (
            f"{self.enterprises} enterprise(s), {self.rows_per_second}/s: SENT p50 {self.sent.p50_ms:.0f} ms,"
            f" p99 {self.sent.p99_ms:.0f} ms; Novu's request p50 {self.called.p50_ms:.0f} ms,"
            f" p99 {self.called.p99_ms:.0f} ms; not SENT at the end: {self.unsent}"
        )


async def measure(stack: Stack, contestant: Contestant, seconds: float, say: Say, seed: int = 0) -> list[Point]:
    """Return the curve of one contestant; each rate is measured for `seconds`."""
    curve: list[Point] = []
    for enterprises in ENTERPRISES:
        async with block(stack, contestant) as running:
            await warmed_up(running)
            for rate in RATES:
                load = stream.Load(rate, seconds, seed, enterprises)
                curve.append(await one_rate(running, load))
                say(f"steady {contestant.name}, {curve[-1].words}")
    return curve


async def one_rate(running: Block, load: stream.Load) -> Point:
    """Write one stream and return its times."""
    began, committed = await stream.counted(running, load)
    await final(running)
    sent = await committed_at(running.connection)
    requests = [request for request in await running.novu.requests() if request.method == "POST"]
    called = {subscriber: request.started_at for request in reversed(requests) for subscriber in request.subscribers}
    counted = {recipient: at for recipient, at in committed.items() if at >= began + stream.LEAD_SECONDS}
    unsent = sum(sent[recipient] > max(committed.values()) for recipient in committed)
    return Point(
        load.enterprises,
        load.rows_per_second,
        spread([sent[recipient] - at for recipient, at in counted.items()]),
        spread([called[recipient] - at for recipient, at in counted.items()]),
        unsent,
    )
