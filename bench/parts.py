"""The parts of a run: how to measure one contestant in one block, which contestants take part, and in how many rounds.

With --against the same parts measure two commits in pairs.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench import (
    backlog,
    burst,
    cost,
    counts,
    flood,
    history,
    idle,
    latency,
    producers,
    recipients,
    recovery,
    stream,
    tenants,
    urgent,
)
from bench import steady_figures as steady
from bench.contestants import DISPATCHER, EVERYBODY, ONE_BY_ONE, PEERS, Contestant
from bench.figures import Better, Value, Values
from bench.sizes import Sizes
from bench.stack import Say, Stack


@dataclass(frozen=True)
class Round:
    """Servers, sizes, number and progress, which all blocks of a round share."""

    stack: Stack
    sizes: Sizes
    number: int
    say: Say


Measure = Callable[[Round, Contestant], Awaitable[Values]]
ROWS_PER_SECOND = 1_500
"""An estimate, for the expected time of a run."""
BLOCK_SECONDS = 5
"""Start, warm-up and end of one contestant."""


@dataclass(frozen=True)
class Part:
    """One part.

    `seconds`: about how long a block takes. `base`: commit BASE takes part, too. `whole`: belongs to a run of all
    contestants. `paired`: can be measured with --against.
    """

    measure: Measure
    seconds: Callable[[Sizes], float]
    contestants: Sequence[Contestant] = (DISPATCHER,)
    rounds: int = 1
    base: bool = False
    whole: bool = True
    paired: bool = True


async def measure_burst(now: Round, contestant: Contestant) -> Values:
    """Measure one statement's rows of one enterprise; the slow contestants get fewer of them."""
    rows = now.sizes.rows
    if contestant in PEERS:
        rows = now.sizes.peer_rows
    elif contestant is ONE_BY_ONE:
        rows = now.sizes.solo_rows
    return await burst.one_block(now.stack, contestant, rows)


def measure_stream(rate: int) -> Measure:
    """Return the measurement of commit to SENT under single commits at a fixed rate."""

    async def measure(now: Round, contestant: Contestant) -> Values:
        load = stream.Load(rate, now.sizes.stream_seconds, seed=now.number)
        found = await stream.one_block(now.stack, contestant, load)
        values = {
            "SENT p50": Value(found.sent.p50_ms, "ms"),
            "SENT p99": Value(found.sent.p99_ms, "ms"),
            "processor": Value(found.processor_ms_per_row, "ms/row"),
            "written": Value(found.written_per_second, "rows/s", Better.CONTROL),
            "not SENT at its end": Value(found.unsent, "rows", Better.CONTROL),
        }
        return {f"stream of {rate}/s, {figure}": value for figure, value in values.items()}

    return measure


def steady_seconds(sizes: Sizes) -> float:
    """Return about how long all streams of a contestant take."""
    return len(steady.ENTERPRISES) * (BLOCK_SECONDS + len(steady.RATES) * (stream.LEAD_SECONDS + sizes.steady_seconds))


def stream_seconds(sizes: Sizes) -> float:
    """Return about how long one stream takes."""
    return BLOCK_SECONDS + stream.LEAD_SECONDS + sizes.stream_seconds


def burst_seconds(sizes: Sizes) -> float:
    """Return about how long one burst takes."""
    return BLOCK_SECONDS + sizes.rows / ROWS_PER_SECOND


def recovery_seconds(sizes: Sizes) -> float:
    """Return about how long the bursts before and after a crash take."""
    return 3 * BLOCK_SECONDS + 2 * sizes.recovery_bursts * sizes.recovery_rows / ROWS_PER_SECOND


PARTS: dict[str, Part] = {
    "latency": Part(
        lambda now, who: latency.one_block(now.stack, who, now.sizes.latency_rows),
        lambda sizes: BLOCK_SECONDS + 0.09 * sizes.latency_rows,
        contestants=EVERYBODY,
        rounds=4,
        base=True,
    ),
    "steady": Part(
        lambda now, who: steady.one_block(now.stack, who, now.sizes.steady_seconds, now.number, now.say),
        steady_seconds,
        base=True,
        paired=False,
    ),
    "stream50": Part(measure_stream(50), stream_seconds, whole=False),
    "stream200": Part(measure_stream(200), stream_seconds, whole=False),
    "burst": Part(measure_burst, burst_seconds, contestants=(DISPATCHER, ONE_BY_ONE, *PEERS), rounds=3, base=True),
    "cost": Part(lambda now, who: cost.one_block(now.stack, who, now.sizes.rows), burst_seconds, rounds=3, base=True),
    "counts": Part(lambda now, who: counts.one_block(now.stack, who, now.sizes.rows), burst_seconds, base=True),
    "tenants": Part(
        lambda now, who: tenants.one_block(now.stack, who, now.sizes.tenants),
        lambda sizes: 4 * BLOCK_SECONDS + 8 * sizes.tenant_rows / ROWS_PER_SECOND,
        paired=False,
    ),
    "recipients": Part(
        lambda now, who: recipients.one_block(now.stack, who, now.sizes.recipients),
        lambda sizes: BLOCK_SECONDS + sum(sizes.recipients) / ROWS_PER_SECOND,
        rounds=5,
        base=True,
    ),
    "urgent": Part(
        lambda now, who: urgent.one_block(now.stack, who, now.sizes.urgent_backlog, now.sizes.urgent_reference),
        lambda sizes: BLOCK_SECONDS + sizes.urgent_backlog / ROWS_PER_SECOND,
        rounds=3,
        base=True,
    ),
    "backlog": Part(
        lambda now, who: backlog.one_block(now.stack, who, now.sizes.backlogs, now.sizes.backlog_enterprises),
        lambda sizes: len(sizes.backlog_enterprises) * (2 + sum(sizes.backlogs) / 25_000),
        paired=False,
    ),
    "history": Part(
        lambda now, who: history.one_block(now.stack, who, now.sizes.history_rows, now.sizes.rows),
        lambda sizes: 7 * burst_seconds(sizes) + sizes.history_rows / 15_000,
        paired=False,
    ),
    "idle": Part(
        lambda now, who: idle.one_block(now.stack, who, now.sizes.idle_seconds),
        lambda sizes: BLOCK_SECONDS + idle.SETTLE_SECONDS + sizes.idle_seconds,
        contestants=EVERYBODY,
        base=True,
    ),
    "recovery": Part(
        lambda now, who: recovery.one_block(now.stack, who, now.sizes.recovery_bursts, now.sizes.recovery_rows),
        recovery_seconds,
        paired=False,
    ),
    "flood": Part(
        lambda now, who: flood.one_block(
            now.stack, who, now.sizes.flood_rows, now.sizes.flood_requests_a_second, now.sizes.flood_slow_clients
        ),
        lambda sizes: BLOCK_SECONDS + 0.4 * sizes.flood_rows,
        rounds=8,
        paired=False,
    ),
    "producers": Part(
        lambda now, who: producers.one_block(now.stack, who, now.sizes.producer_seconds),
        lambda sizes: BLOCK_SECONDS + 3 + sizes.producer_seconds,
        contestants=(producers.BARE, producers.NO_TRIGGER, producers.ALWAYS, producers.ADAPTIVE),
        rounds=8,
    ),
}
"""In this order; the producers are last because they leave a backlog of workflows behind."""
WHOLE = [name for name, part in PARTS.items() if part.whole]
PAIRED = [name for name, part in PARTS.items() if part.paired]
