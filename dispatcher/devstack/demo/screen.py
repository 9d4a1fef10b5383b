"""The demo's output: on a terminal a table that changes, otherwise one line for each step once it is final."""

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dispatcher.devstack.demo.report import HOPS, Report, final_text, percentiles
from dispatcher.devstack.demo.results import DemoRow
from dispatcher.devstack.demo.scenario import SCENARIO, Step


class Screen:
    """Shows the scenario's progress on `console`; messages about the stack go to `messages`."""

    def __init__(self, console: Console, messages: Console) -> None:
        self._console = console
        self._messages = messages
        self._live: Live | None = None
        self._printed: set[str] = set()

    def say(self, text: str) -> None:
        """Print a message about the stack."""
        self._messages.print(text, markup=False, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Print one line of the demo's result."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def live_table(self) -> Generator[None]:
        """Show the table on the terminal during the block. It stays visible afterwards."""
        if not self._console.is_terminal:
            yield
            return
        with Live(table({}), console=self._console, auto_refresh=False) as self._live:
            yield

    def update(self, rows: Mapping[int, DemoRow]) -> None:
        """Show the current state of the rows."""
        if self._live is not None:
            self._live.update(table(rows), refresh=True)
            return
        for step in SCENARIO:
            own = rows_of(step, rows)
            if step.key not in self._printed and len(own) == step.rows and all(row.final for row in own):
                self._printed.add(step.key)
                self.line(f"{step.title:<40} {progress(own):<16} {duration(own)}".rstrip())

    def report(self, report: Report) -> None:
        """Print the latencies, and the mismatches if there are any."""
        self.line("")
        self.line(f"{'milliseconds':<44}{'p50':>9}{'p95':>9}{'max':>9}")
        for group, hops in report.latency_ms.items():
            for name, found in hops.items():
                self.line(f"{group_text(group):<15}{HOPS[name]:<29}{found.p50:>9.1f}{found.p95:>9.1f}{found.max:>9.1f}")
        self.line("due: time of the commit; for a scheduled notification its scheduled time")
        if report.burst_rows_per_second is not None:
            self.line(f"burst: {report.burst_rows_per_second:.0f} rows/s, from the commit to the last outcome")
        effects = report.effects
        self.line(
            f"Novu accepted {effects['accepted']} triggers of {effects['expected']} expected, "
            f"{effects['more_than_once']} of them more than once"
        )
        self.line("everything as expected" if not report.mismatches else "NOT as expected:")
        for each in report.mismatches:
            self.line(f"  {each}")


def table(rows: Mapping[int, DemoRow]) -> Table:
    """Return a table with one line for each step."""
    drawn = Table("what", "status", "due → settled", box=None, pad_edge=False)
    for column in drawn.columns:
        column.no_wrap = True
    for step in SCENARIO:
        own = rows_of(step, rows)
        as_expected = own and all((row.status, row.outcome) == (step.status, step.outcome) for row in own)
        drawn.add_row(step.title, progress(own), duration(own), style="green" if as_expected else "")
    return drawn


def rows_of(step: Step, rows: Mapping[int, DemoRow]) -> list[DemoRow]:
    """Return the rows of a step."""
    return [row for row in rows.values() if row.step is step]


def progress(rows: list[DemoRow]) -> str:
    """Return the number of rows in each status, for display."""
    counts = Counter(final_text(row.status, row.outcome) for row in rows)
    return ", ".join(name if len(rows) == 1 else f"{count} {name}" for name, count in counts.items())


def duration(rows: list[DemoRow]) -> str:
    """Return the latency of the rows, for display."""
    found = percentiles([row.milliseconds for row in rows if row.milliseconds is not None])
    if found is None:
        return ""
    return f"{found.max:.0f} ms" if len(rows) == 1 else f"{found.p50:.0f} ms, last {found.max:.0f} ms"


def group_text(group: str) -> str:
    """Return a group's name for display."""
    return group.replace("_", " ")
