"""Percentiles of a contestant's rows, and verdicts on numbers. `targets.py` has the numbers that are judged."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Percentiles of a contestant's rows, in milliseconds."""

    rows: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def spread(seconds: Sequence[float]) -> Spread:
    """Return the percentiles of `seconds`."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Spread(len(seconds), *(1000 * value for value in (cuts[49], cuts[89], cuts[98], max(seconds))))


@dataclass(frozen=True)
class Verdict:
    """One judged number and its target. `met` is None if it was not judged, and `why` says the reason."""

    name: str
    value: float
    target: str
    met: bool | None
    why: str = ""


def at_most(name: str, value: float, limit: float, unit: str = "x") -> Verdict:
    """Return the verdict on a number with an upper limit."""
    return Verdict(name, value, f"<= {limit:g}{unit}", value <= limit)


def at_least(name: str, value: float, limit: float, unit: str = "x") -> Verdict:
    """Return the verdict on a number with a lower limit."""
    return Verdict(name, value, f">= {limit:g}{unit}", value >= limit)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return how many targets were met, missed and not judged."""
    counts = [sum(verdict.met is met for verdict in verdicts) for met in (True, False, None)]
    return "targets: {} met, {} missed, {} not judged".format(*counts)
