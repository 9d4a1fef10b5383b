"""Prints for people and programs: messages, cells, tables, JSON. Control characters in a row never reach a terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from dispatcher.models.notification import UNSUCCESSFUL, Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_rows import ListedRow, RowSummary

COLUMNS = {"id": 10, "status": 16, "created (UTC)": 19, "Novu workflow": 22, "to": 4, "next": 24, "error": None}
"""The columns of a table of rows and their widths in characters; the last one takes the rest."""


def say(message: str) -> None:
    """Print a message to stderr."""
    from dispatcher.telemetry.redaction import escaped

    typer.echo(escaped(message), err=True)


def print_json(document: object, *, lines: bool = False) -> None:
    """Print JSON to stdout: indented, or on one line if it is one of many."""
    typer.echo(json.dumps(document, indent=None if lines else 2))


def print_cells(*cells: object) -> None:
    """Print one line of cells to stdout, with tabs between them and `-` for None."""
    from dispatcher.telemetry.redaction import escaped

    typer.echo("\t".join(escaped(str(cell)) if cell is not None else "-" for cell in cells))


class RowTable:
    """Prints pages of rows: on a terminal as one table, elsewhere one line for each row."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._has_header = False

    def add(self, rows: Sequence["ListedRow"]) -> None:
        """Print the next page."""
        if not self._terminal:
            for row in rows:
                print_cells(*cells(row), row["enterprise"])
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from dispatcher.telemetry.redaction import escaped

        table = Table(box=None, pad_edge=False, show_header=not self._has_header, expand=True)
        for name, width in COLUMNS.items():
            table.add_column(name, width=width, no_wrap=True, overflow="ellipsis", ratio=None if width else 1)
        for row in rows:
            # Text, not str: rich would read markup in a str.
            table.add_row(*(Text(escaped(str(cell))) if cell is not None else "" for cell in cells(row)))
        Console().print(table)
        self._has_header = True


def cells(row: "ListedRow") -> list[object]:
    """Return a row's cells in the order of `COLUMNS`."""
    return [
        row["id"],
        status_text(row),
        time_text(row["created_at"]),
        row["workflow"],
        row["recipients"],
        next_event(row, row["scheduled_for"]),
        row["error"],
    ]


def status_text(row: "RowSummary") -> str:
    """Return a row's status, as `FAILED (PARTIAL)` if the table's enum lacks PARTIAL."""
    if row["status"] == Status.FAILED and row["outcome"] == Status.PARTIAL:
        return f"{Status.FAILED} ({Status.PARTIAL})"
    return row["status"]


def next_event(row: "RowSummary", scheduled_for: str | None = None) -> str | None:
    """Return the next event of a row in two words, or None if the row alone does not tell."""
    if row["status"] == Status.PENDING and scheduled_for:
        return f"at {time_text(scheduled_for)}"
    if row["status"] in UNSUCCESSFUL:
        if row["next_attempt_at"]:
            return f"again {time_text(row['next_attempt_at'])}"
        return "dead letter" if row["dead_lettered_at"] else None
    return None


def time_text(text: str | None) -> str | None:
    """Return an ISO 8601 time as `2026-03-01 12:00:00`. A time that Python cannot represent stays as it is."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def seconds_between(earlier: str, later: str) -> float | None:
    """Return the seconds between two ISO 8601 times, or None if Python cannot represent one of them."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, OverflowError):
        return None


def duration_text(seconds: float) -> str:
    """Return a duration with one unit, such as `3 h`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values to stdout, one pair a line; leave out values that are None."""
    from dispatcher.telemetry.redaction import escaped

    for name, value in pairs:
        if value is not None:
            typer.echo(f"{name:<26}{escaped(str(value))}")
