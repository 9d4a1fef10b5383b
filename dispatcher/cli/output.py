"""What a person sees: words, lines and tables. Nothing a row holds reaches the terminal as it is."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import Row

COLUMNS = {"id": 10, "status": 16, "created (UTC)": 19, "Novu workflow": 22, "to": 4, "next": 24, "error": None}


def say(words: str) -> None:
    """Say something to the person at the terminal."""
    from dispatcher.telemetry.redaction import escaped

    typer.echo(escaped(words), err=True)


def print_json(document: object, *, lines: bool = False) -> None:
    """Print JSON: a document, or one of many on a line of its own."""
    typer.echo(json.dumps(document, indent=None if lines else 2))


def print_cells(*cells: object) -> None:
    """Print one line of cells with tabs between them."""
    from dispatcher.telemetry.redaction import escaped

    typer.echo("\t".join(escaped(str(cell)) if cell is not None else "-" for cell in cells))


class RowTable:
    """Rows of notifications: on a terminal a table, elsewhere a line each. Pages follow each other seamlessly."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._begun = False

    def add(self, rows: Sequence["Row"]) -> None:
        """Print some more rows."""
        if not self._terminal:
            for row in rows:
                print_cells(*cells(row), row["enterprise"])
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from dispatcher.telemetry.redaction import escaped

        table = Table(box=None, pad_edge=False, show_header=not self._begun, expand=True)
        for name, width in COLUMNS.items():
            table.add_column(name, width=width, no_wrap=True, overflow="ellipsis", ratio=None if width else 1)
        for row in rows:
            # Text, not str: nothing in a row is markup.
            table.add_row(*(Text(escaped(str(cell))) if cell is not None else "" for cell in cells(row)))
        Console().print(table)
        self._begun = True


def cells(row: "Row") -> list[object]:
    """Return a row's cells in the order of the columns."""
    return [
        row["id"],
        status(row),
        time_text(row["created_at"]),
        row["workflow"],
        row["recipients"],
        next_event(row),
        row["error"],
    ]


def status(row: "Row") -> str:
    """Return a row's status; what the enum could not say in brackets."""
    return f"{row['status']} (PARTIAL)" if (row["status"], row["outcome"]) == ("FAILED", "PARTIAL") else row["status"]


def next_event(row: "Row") -> str | None:
    """Return in two words what happens next to a row, if anything is known to."""
    if row["status"] == "PENDING" and row["scheduled_for"]:
        return f"at {time_text(row['scheduled_for'])}"
    if row["status"] in ("FAILED", "PARTIAL"):
        if row["next_attempt_at"]:
            return f"again {time_text(row['next_attempt_at'])}"
        return "dead letter" if row["dead_lettered_at"] else None
    return None


def time_text(text: str | None) -> str | None:
    """Return a time as JSON has it in a shape for people; what is no time of this world stays as it is."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def seconds_between(earlier: str, later: str) -> float | None:
    """Return the seconds from one time to another, None when one is not of this world."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, OverflowError):
        return None


def duration(seconds: float) -> str:
    """Return a length of time for people."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def print_pairs(rows: Iterable[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a line each."""
    from dispatcher.telemetry.redaction import escaped

    for name, value in rows:
        if value is not None:
            typer.echo(f"{name:<26}{escaped(str(value))}")
