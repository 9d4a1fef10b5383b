"""The results of a run, as a record for a file and as tables for a terminal."""

import dataclasses
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.block import ledger
from bench.burst import Burst
from bench.contestants import DISPATCHER, FLOOR
from bench.flood import ALONE
from bench.idle import Idle
from bench.producers import ADAPTIVE, ALWAYS, BARE, NO_TRIGGER, ratio
from bench.steady import Point
from bench.tenants import Shape
from bench.verdict import (
    Spread,
    Verdict,
    judge_burst,
    judge_flood,
    judge_idle,
    judge_latency,
    judge_producers,
    judge_recovery,
    judge_steady,
    judge_tenants,
)

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("novu-py", "temporalio", "psycopg", "pgqueuer", "procrastinate", "uvloop")


@dataclasses.dataclass
class Results:
    """The measurements by contestant; empty for a part that was not run."""

    quick: bool
    latency: dict[str, Spread] = dataclasses.field(default_factory=dict[str, Spread])
    steady: list[Point] = dataclasses.field(default_factory=list[Point])
    tenants: list[Shape] = dataclasses.field(default_factory=list[Shape])
    burst: dict[str, Burst] = dataclasses.field(default_factory=dict[str, Burst])
    idle: dict[str, Idle] = dataclasses.field(default_factory=dict[str, Idle])
    producers: dict[str, list[float]] = dataclasses.field(default_factory=dict[str, list[float]])
    recovery: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    flood: dict[str, Spread] = dataclasses.field(default_factory=dict[str, Spread])
    flood_requests: dict[str, int] = dataclasses.field(default_factory=dict[str, int])

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each judged number."""
        parts = [
            (self.latency, judge_latency),
            (self.steady, judge_steady),
            (self.tenants, judge_tenants),
            (self.burst, judge_burst),
            (self.idle, judge_idle),
            (self.producers, judge_producers),
            (self.recovery, judge_recovery),
            (self.flood, judge_flood),
        ]
        return [verdict for found, judge in parts if found for verdict in judge(found)]  # pyright: ignore[reportArgumentType]

    def record(self) -> dict[str, Any]:
        """Return the content of the result file."""
        record = dataclasses.asdict(self)
        return {
            "at": datetime.now(UTC).isoformat(),
            "machine": machine(),
            **record,
            "ledger": [dataclasses.asdict(counts) for counts in ledger],
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts()],
        }


def machine() -> dict[str, Any]:
    """Return the properties of this machine that affect the numbers, with its current load."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(value, 2) for value in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
    }


def installed(name: str) -> str | None:
    """Return a package's version; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def save(record: Mapping[str, Any], suffix: str = "") -> Path:
    """Write a result file, whose name is the time and `suffix`; return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{record['at'][:19].replace(':', '-')}{suffix}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def show(results: Results) -> None:
    """Print the tables."""
    console = Console(file=sys.stdout)
    tables = (latency_table, steady_table, tenants_table, burst_table, idle_table, producers_table, recovery_table)
    for table in (make(results) for make in (*tables, flood_table)):
        if table.row_count:
            console.print(table)
    console.print(verdict_table(results.verdicts()))
    if results.quick:
        console.print("A quick run only tests the benchmark itself. Its numbers mean nothing.")


def latency_table(results: Results) -> Table:
    """Return commit to Novu's request."""
    table = columns("commit to Novu's request", "rows", "p50 ms", "p90 ms", "p99 ms", "p50 / floor", "p99 / floor")
    for name, ours in results.latency.items():
        floor = results.latency[FLOOR.name]
        numbers = (ours.p50_ms, ours.p90_ms, ours.p99_ms, ours.p50_ms / floor.p50_ms, ours.p99_ms / floor.p99_ms)
        table.add_row(name, str(ours.rows), *(f"{number:.2f}" for number in numbers))
    return table


def steady_table(results: Results) -> Table:
    """Return the curve over the rate."""
    names = ("p50 ms", "p99 ms", "request p50 ms", "request p99 ms", "not SENT at the end")
    table = columns("steady stream, commit to SENT", "rows/s", *names)
    for point in results.steady:
        numbers = (point.sent.p50_ms, point.sent.p99_ms, point.called.p50_ms, point.called.p99_ms, point.unsent)
        table.add_row(
            f"{point.enterprises} enterprise(s)", str(point.rows_per_second), *(f"{number:.0f}" for number in numbers)
        )
    return table


def tenants_table(results: Results) -> Table:
    """Return the rates by the number of enterprises."""
    table = columns("enterprises", "rows", "accepted/s", "final/s", "this / one enterprise")
    for shape in results.tenants:
        burst, one = shape.burst, results.tenants[0].burst
        rates = (f"{burst.accepted_per_second:.0f}", f"{burst.final_per_second:.0f}")
        table.add_row(
            str(shape.enterprises), str(burst.rows), *rates, f"{burst.final_per_second / one.final_per_second:.2f}"
        )
    return table


def burst_table(results: Results) -> Table:
    """Return rows per second."""
    table = columns("burst", "rows", "accepted/s", "final/s", "dispatcher / this")
    for name, burst in results.burst.items():
        ratio = results.burst[DISPATCHER.name].accepted_per_second / burst.accepted_per_second
        rates = (f"{burst.accepted_per_second:.0f}", f"{burst.final_per_second:.0f}", f"{ratio:.1f}")
        table.add_row(name, str(burst.rows), *rates)
    return table


def idle_table(results: Results) -> Table:
    """Return the table of the idle costs."""
    table = columns("idle", "memory MB", "% of a core", "ready s", "memory, dispatcher / this")
    for name, idle in results.idle.items():
        ratio = results.idle[DISPATCHER.name].memory_mb / idle.memory_mb
        numbers = (f"{idle.memory_mb:.0f}", f"{100 * idle.core_share:.2f}", f"{idle.ready_seconds:.2f}", f"{ratio:.2f}")
        table.add_row(name, *numbers)
    return table


def producers_table(results: Results) -> Table:
    """Return the table of the producers' commits per second."""
    table = columns("producers", "commits/s", "of no trigger", "min..max", "of bare", "min..max")
    names = {BARE.name: "bare: no trigger, no index", NO_TRIGGER.name: "no trigger"}
    for mode in (BARE, NO_TRIGGER, ALWAYS, ADAPTIVE):
        if rates := results.producers.get(mode.name):
            ratios = [ratio(results.producers, mode, base) for base in (NO_TRIGGER, BARE)]
            shown = [text for each in ratios for text in (f"{each.median:.2f}", f"{each.least:.2f}..{each.most:.2f}")]
            table.add_row(names.get(mode.name, mode.name), f"{statistics.median(rates):.0f}", *shown)
    return table


def recovery_table(results: Results) -> Table:
    """Return the table of the rates before and after the database's restart."""
    table = columns("recovery", "rows/s")
    for when, rate in results.recovery.items():
        table.add_row(f"{when} the restart", f"{rate:.0f}")
    return table


def flood_table(results: Results) -> Table:
    """Return the table of the latencies from commit to Novu's request, by kind of flood."""
    table = columns("commit to Novu's request", "rows", "p50 ms", "p99 ms", "p99 / alone")
    for name, spread in results.flood.items():
        numbers = (spread.p50_ms, spread.p99_ms, spread.p99_ms / results.flood[ALONE].p99_ms)
        table.add_row(name, str(spread.rows), *(f"{number:.2f}" for number in numbers))
    return table


def verdict_table(verdicts: list[Verdict]) -> Table:
    """Return the table of the judged numbers."""
    table = columns("target", "measured", "wanted", "met")
    for verdict in verdicts:
        table.add_row(verdict.name, f"{verdict.value:.2f}", verdict.target, "yes" if verdict.met else "NO")
    return table


def columns(first: str, *others: str) -> Table:
    """Return an empty table with these columns."""
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
