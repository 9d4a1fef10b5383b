"""The curve of the steady streams as figures: one for each number of enterprises, rate and percentile."""

from bench import steady
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.stack import Say, Stack

RATES, ENTERPRISES = steady.RATES, steady.ENTERPRISES


def figure(enterprises: int, rate: int, percentile: str) -> str:
    """Return the name of the figure of one point of the curve."""
    return f"SENT {percentile}, {enterprises} enterprise(s), {rate}/s"


async def one_block(stack: Stack, contestant: Contestant, seconds: float, seed: int, say: Say) -> Values:
    """Return commit to SENT at each rate, and the rows that were not SENT at the end of each stream."""
    values: Values = {}
    for point in await steady.measure(stack, contestant, seconds, say, seed):
        place = point.enterprises, point.rows_per_second
        values[figure(*place, "p50")] = Value(point.sent.p50_ms, "ms")
        values[figure(*place, "p99")] = Value(point.sent.p99_ms, "ms")
        values[f"not SENT at the end, {place[0]} enterprise(s), {place[1]}/s"] = Value(
            point.unsent, "rows", Better.CONTROL
        )
    return values
