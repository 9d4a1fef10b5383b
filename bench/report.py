"""The results of a run, as a record for a file and as tables for a terminal."""

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.block import ledger
from bench.figures import Parts, Series, recorded
from bench.progress import BAD, GOOD, UNKNOWN
from bench.sizes import Sizes
from bench.targets import judge
from bench.verdict import Verdict, summary

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("novu-py", "temporalio", "psycopg", "pgqueuer", "procrastinate", "uvloop")
PLAIN_WIDTH = 150
"""Characters in a line of a table where stdout is no terminal."""


@dataclasses.dataclass
class Results:
    """What a run measured; a part that was not run is absent. `commit`: of the working tree; empty without git."""

    sizes: Sizes
    quick: bool
    commit: str = ""
    parts: Parts = dataclasses.field(default_factory=Parts)
    failures: list[str] = dataclasses.field(default_factory=list[str])

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each judged number."""
        return judge(self.parts, self.sizes)

    def record(self) -> dict[str, Any]:
        """Return the content of the result file."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self.commit,
            "machine": machine(),
            "quick": self.quick,
            "sizes": dataclasses.asdict(self.sizes),
            "parts": recorded(self.parts),
            "failures": self.failures,
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts()],
            "ledger": [dataclasses.asdict(counts) for counts in ledger],
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
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for part, figures in results.parts.items():
        console.print(part_table(part, figures))
    verdicts = results.verdicts()
    console.print(verdict_table(verdicts))
    for failure in results.failures:
        console.print(failure, style=BAD, markup=False)
    if results.quick:
        console.print("A quick run only tests the benchmark itself. Its numbers mean nothing.")
    missed = results.failures or any(verdict.met is False for verdict in verdicts)
    failed = f"; {len(results.failures)} block(s) failed" if results.failures else ""
    console.print(summary(verdicts) + failed, style=BAD if missed else GOOD)


def part_table(part: str, figures: Mapping[str, Mapping[str, Series]]) -> Table:
    """Return the figures of one part: the median of each contestant, and the spread of its rounds."""
    table = columns(part, "contestant", "median", "unit", "least..most")
    for figure, found in figures.items():
        for name, series in found.items():
            spread = f"{number(min(series.values))}..{number(max(series.values))}" if len(series.values) > 1 else ""
            table.add_row(figure, name, number(series.median), series.unit, spread)
    return table


def number(value: float) -> str:
    """Return a number as people read it, with three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of the judged numbers."""
    table = columns("target", "measured", "wanted", "met")
    words = {True: f"[{GOOD}]yes[/]", False: f"[{BAD}]NO[/]"}
    for verdict in verdicts:
        met = f"[{UNKNOWN}]not judged: {verdict.why}[/]" if verdict.met is None else words[verdict.met]
        table.add_row(verdict.name, number(verdict.value), verdict.target, met)
    return table


def columns(first: str, *others: str) -> Table:
    """Return an empty table with these columns."""
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
