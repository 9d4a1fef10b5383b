"""Ratios of the measurements, and verdicts. Each judged number is a ratio within one run, except those of idle."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.burst import Burst
from bench.contestants import DISPATCHER, FLOOR, ONE_BY_ONE, PEERS
from bench.flood import ELSEWHERE, FLOODED
from bench.idle import Idle
from bench.producers import ADAPTIVE, BARE, NO_TRIGGER, ratio

if TYPE_CHECKING:
    from bench.steady import Point
    from bench.tenants import Shape

TENANTS_OF_TEN_ROWS = 2_000
"""Up to so many enterprises the rate is at least 0.9 of that of one; with more, 0.75."""


@dataclass(frozen=True)
class Spread:
    """Percentiles of a contestant's rows, in milliseconds."""

    rows: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Verdict:
    """One judged number and its target."""

    name: str
    value: float
    target: str
    met: bool


def spread(seconds: Sequence[float]) -> Spread:
    """Return the percentiles of `seconds`."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Spread(len(seconds), *(1000 * value for value in (cuts[49], cuts[89], cuts[98], max(seconds))))


def at_most(name: str, value: float, limit: float, unit: str = "x") -> Verdict:
    """Return the verdict on a number with an upper limit."""
    return Verdict(name, value, f"<= {limit:g}{unit}", value <= limit)


def at_least(name: str, value: float, limit: float) -> Verdict:
    """Return the verdict on a number with a lower limit."""
    return Verdict(name, value, f">= {limit:g}x", value >= limit)


def judge_latency(spreads: Mapping[str, Spread]) -> list[Verdict]:
    """Judge Dispatcher's latency against the floor's."""
    ours, floor = spreads[DISPATCHER.name], spreads[FLOOR.name]
    return [
        at_most("latency p50, dispatcher / floor", ours.p50_ms / floor.p50_ms, 1.5),
        at_most("latency p99, dispatcher / floor", ours.p99_ms / floor.p99_ms, 3),
    ]


def judge_steady(points: Sequence["Point"]) -> list[Verdict]:
    """Judge the latency of each rate against the median of the lowest: the curve has no hump."""
    verdicts: list[Verdict] = []
    for enterprises in {point.enterprises: None for point in points}:
        lowest, *others = [point for point in points if point.enterprises == enterprises]
        for point in others:
            name = f"{enterprises} enterprise(s), {point.rows_per_second}/s to {lowest.rows_per_second}/s"
            verdicts += [
                at_most(f"steady p50, {name}", point.sent.p50_ms / lowest.sent.p50_ms, 3),
                at_most(f"steady p99 / p50, {name}", point.sent.p99_ms / lowest.sent.p50_ms, 8),
            ]
    return verdicts


def judge_tenants(shapes: Sequence["Shape"]) -> list[Verdict]:
    """Judge the rate of many enterprises against that of one."""
    one, *others = [(shape.enterprises, shape.burst.final_per_second) for shape in shapes]
    return [
        at_least(f"final/s, {number} enterprises / one", rate / one[1], 0.75 if number > TENANTS_OF_TEN_ROWS else 0.9)
        for number, rate in others
    ]


def judge_burst(bursts: Mapping[str, Burst]) -> list[Verdict]:
    """Judge Dispatcher's rate of accepted rows against the better peer's, and against its own without batches."""
    ours = bursts[DISPATCHER.name].accepted_per_second
    peer = max(bursts[peer.name].accepted_per_second for peer in PEERS)
    return [
        at_least("burst, dispatcher / better peer", ours / peer, 8),
        at_least("burst, batches / one workflow per row", ours / bursts[ONE_BY_ONE.name].accepted_per_second, 10),
    ]


def judge_idle(idles: Mapping[str, Idle]) -> list[Verdict]:
    """Judge memory and CPU of an idle Dispatcher, and the time until it is ready."""
    ours = idles[DISPATCHER.name]
    return [
        at_most("idle memory, dispatcher", ours.memory_mb, 150, " MB"),
        at_most("idle processor, dispatcher", 100 * ours.core_share, 1, " % of a core"),
        at_most("ready, dispatcher", ours.ready_seconds, 3, " s"),
    ]


def judge_producers(rates: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """Judge the producers' rate with adaptive NOTIFY against that without a trigger, and that without an index, too."""
    return [
        at_least("producers' commits, adaptive / no trigger", ratio(rates, ADAPTIVE, NO_TRIGGER).median, 0.96),
        at_least("producers' commits, adaptive / no trigger and no index", ratio(rates, ADAPTIVE, BARE).median, 0.9),
    ]


def judge_recovery(rates: Mapping[str, float]) -> list[Verdict]:
    """Judge the rate after the database's restart against that before."""
    return [at_least("recovery, after / before PostgreSQL's restart", rates["after"] / rates["before"], 0.98)]


def judge_flood(spreads: Mapping[str, Spread]) -> list[Verdict]:
    """Judge the latency during a flood at our port against that during a flood at another port."""
    ratio = spreads[FLOODED].p99_ms / spreads[ELSEWHERE].p99_ms
    return [at_most("latency p99, our port flooded / another", ratio, 1.1)]
