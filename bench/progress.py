"""Progress on the terminal: what runs now, how far the run is, and one line for each finished block.

It goes to stderr, because stdout is for the result. Where stderr is no terminal, there are only the lines.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.figures import Better, Values

GOOD, BAD, UNKNOWN, QUIET = "green", "bold red", "yellow", "dim"
"""Colours: a target that is met, one that is missed or a block that failed, what was not judged, and detail."""
SHOWN = 3
"""Figures of a block in its line."""


class Reporter:
    """Tells a person how a run goes."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def begin(self, words: str) -> None:
        """Name what runs now."""
        self._bar.update(self._task, description=words)

    def end(self, words: str, values: Values) -> None:
        """Tell what a block measured."""
        results = [(name, value) for name, value in values.items() if value.better is not Better.CONTROL]
        told = [f"{name} {value.amount:,.4g} {value.unit}" for name, value in results[:SHOWN]]
        more = [f"and {len(results) - SHOWN} more"] if len(results) > SHOWN else []
        self._bar.console.print(f"[{GOOD}]{escape(words)}[/] {escape('; '.join(told + more))}", soft_wrap=True)
        self._bar.advance(self._task)

    def fail(self, words: str, error: BaseException) -> None:
        """Tell that a block failed."""
        self._bar.console.print(f"[{BAD}]{escape(f'{words}: {error}')}[/]", soft_wrap=True)
        self._bar.advance(self._task)

    def say(self, words: str) -> None:
        """Print one line of detail."""
        self._bar.console.print(f"[{QUIET}]{escape(words)}[/]", soft_wrap=True)


@contextmanager
def reporting(blocks: int) -> Generator[Reporter]:
    """Show the progress of a run of so many blocks."""
    console = Console(file=sys.stderr, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Reporter(bar, bar.add_task("starting the servers", total=blocks))
