"""Figures of two commits in pairs. A round measures each figure once at both commits, one right after the other.

Noise that lasts longer than a pair changes both of its values, so the ratio within a pair is what counts.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console

from bench.figures import Better, Value
from bench.report import columns

PLAIN_WIDTH = 150
"""Characters in a line of the table where stdout is no terminal."""


class Ratio(NamedTuple):
    """The median of the ratios, and the smallest and the largest of them."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Figure:
    """All values of one figure; values of the same position make a pair."""

    name: str
    unit: str
    better: Better
    revision: list[float]
    tree: list[float]

    @property
    def ratios(self) -> list[float]:
        """Return working tree / revision for each pair; a pair whose revision measured 0 has no ratio."""
        return [ours / theirs for theirs, ours in zip(self.revision, self.tree, strict=True) if theirs]

    @property
    def ratio(self) -> Ratio | None:
        """Return the ratios in short; None where there are none."""
        ratios = self.ratios
        return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    @property
    def better_pairs(self) -> int | None:
        """Return in how many pairs the working tree is better; None for a control."""
        if self.better is Better.CONTROL:
            return None
        pairs = zip(self.revision, self.tree, strict=True)
        return sum(ours > theirs if self.better is Better.HIGHER else ours < theirs for theirs, ours in pairs)

    def record(self) -> dict[str, Any]:
        """Return what the result file holds."""
        return {
            "unit": self.unit,
            "better": self.better,
            "revision": self.revision,
            "tree": self.tree,
            "medians": {"revision": statistics.median(self.revision), "tree": statistics.median(self.tree)},
            "ratios": self.ratios,
            "ratio": self.ratio and self.ratio._asdict(),
            "better_pairs": self.better_pairs,
        }


def paired(rounds: Sequence[tuple[Mapping[str, Value], Mapping[str, Value]]]) -> list[Figure]:
    """Return the figures of rounds, each with the values of the revision and of the working tree."""
    return [
        Figure(
            name,
            value.unit,
            value.better,
            [theirs[name].amount for theirs, _ in rounds],
            [ours[name].amount for _, ours in rounds],
        )
        for name, value in rounds[0][0].items()
    ]


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the table."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    table = columns(
        title, "unit", "better", "revision", "working tree", "ratio of each pair", "median", "min..max", "won"
    )
    for figure in figures:
        medians = (statistics.median(figure.revision), statistics.median(figure.tree))
        ratio, won = figure.ratio, figure.better_pairs
        table.add_row(
            figure.name,
            figure.unit,
            figure.better,
            *(f"{median:,.2f}" if median < 100 else f"{median:,.0f}" for median in medians),
            " ".join(f"{each:.2f}" for each in figure.ratios),
            f"{ratio.median:.2f}" if ratio else "",
            f"{ratio.least:.2f}..{ratio.most:.2f}" if ratio else "",
            "" if won is None else f"{won}/{len(figure.tree)}",
        )
    console.print(table)
    console.print("ratio: working tree / revision. won: pairs in which the working tree is better.")
    chance = 2 ** (len(figures[0].tree) - 1)
    console.print(f"By chance alone, one figure in {chance} wins or loses every pair.")
