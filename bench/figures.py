"""Figures: named numbers that a block of one contestant measures, and their values over all rounds of a run.

A record holds them as part -> figure -> contestant -> values. Tables, verdicts, README and the picture are made of
these values alone, so that a saved record can be judged again.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Better(StrEnum):
    """Which of two values is the better one; a control is no result, it shows whether the load was as intended."""

    LOWER = "lower"
    HIGHER = "higher"
    CONTROL = "control"


class Value(NamedTuple):
    """One measured number."""

    amount: float
    unit: str
    better: Better = Better.LOWER


Values = dict[str, Value]
"""What one block of one contestant measured, by figure."""


@dataclass(frozen=True)
class Series:
    """The values of one figure and one contestant, one for each round."""

    unit: str
    better: str
    values: list[float]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Return the largest value as a multiple of the smallest; 1 if the smallest is 0."""
        return max(self.values) / min(self.values) if min(self.values) > 0 else 1.0

    def record(self) -> dict[str, Any]:
        """Return what a record holds; median and spread are for its readers."""
        return {
            "unit": self.unit,
            "better": self.better,
            "median": self.median,
            "least": min(self.values),
            "most": max(self.values),
            "values": self.values,
        }


Parts = dict[str, dict[str, dict[str, Series]]]
"""The series by part, figure and contestant."""


def add(parts: Parts, part: str, contestant: str, values: Values) -> None:
    """Append what one block measured."""
    for figure, value in values.items():
        by_contestant = parts.setdefault(part, {}).setdefault(figure, {})
        series = by_contestant.setdefault(contestant, Series(value.unit, value.better, []))
        # Rounded here, so that a saved record gives the same verdicts as the run.
        series.values.append(float(f"{value.amount:.5g}"))


def recorded(parts: Parts) -> dict[str, Any]:
    """Return the parts as a record holds them."""
    return {
        part: {
            figure: {contestant: series.record() for contestant, series in found.items()}
            for figure, found in figures.items()
        }
        for part, figures in parts.items()
    }


def read(record: Mapping[str, Any]) -> Parts:
    """Return the parts of a record."""
    return {
        part: {
            figure: {
                contestant: Series(series["unit"], series["better"], series["values"])
                for contestant, series in found.items()
            }
            for figure, found in figures.items()
        }
        for part, figures in record["parts"].items()
    }
