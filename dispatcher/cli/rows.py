"""`dispatcher list`, `show` and `tail`: the rows of the outbox, their state, and their next step."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.filter_options import (
    MAX_BIGINT,
    AsJson,
    Dead,
    Enterprise,
    Error,
    Since,
    StatusNames,
    Until,
    Workflow,
    filters_from,
)
from dispatcher.cli.options import Outbox, Url
from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_rows import RecipientRow, RowDetails, WatchedRow

PAGE_ROWS = 500
"""How many rows `list` reads at a time."""
TAIL_POLL_SECONDS = 0.5
MAX_OPEN_IDS = 500
"""How many open rows `tail` reads again by their ids."""
SHOWN_RECIPIENTS = 50
"""How many recipients `show` prints; --json prints all."""
HIDDEN_COLUMNS = frozenset({
    "id", "status", "outcome", "now", "due", "held", "nodes_alive", "to_take_back", "not_run_yet",
    "retraction_noticed", "refused", "pruned",
    "accepted", "unknown", "novu_transaction_id",
})  # fmt: skip
"""The columns that `show` does not print: they are in the first lines, the next step or the list of recipients."""


def list_(  # noqa: PLR0917  (Typer's)
    status: StatusNames = None,
    enterprise: Enterprise = None,
    workflow: Workflow = None,
    error: Error = None,
    since: Since = None,
    until: Until = None,
    dead: Dead = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many rows at most, the newest first.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="List all rows, without a limit.")] = False,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """List notifications, newest first: a table on a terminal, one line for each elsewhere, JSON lines with --json."""
    import anyio

    filters = filters_from(status, enterprise, workflow, error, (since, until), dead=dead)

    async def run() -> None:
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import RowTable, print_json, say

        table, below, left = RowTable(), None, MAX_BIGINT if everything else limit
        async with open_operator(database_url, outbox) as operator:
            while left and (rows := await operator.list_rows(filters, min(PAGE_ROWS, left), below)):
                for row in rows if as_json else ():
                    print_json(row, lines=True)
                if not as_json:
                    table.add(rows)
                below, left = rows[-1]["id"], left - len(rows)
        if below is None:
            say("no rows")

    anyio.run(run)


def show(
    notification_id: Annotated[int, typer.Argument(metavar="ID", help="The notification's id.", min=1, max=MAX_BIGINT)],
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Show one notification: its state, its recipients with their outcomes, and its next step with the time."""
    import anyio

    async def run() -> None:
        from dispatcher.cli.next_step import next_step
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import print_json
        from dispatcher.models.errors import CheckFailed

        async with open_operator(database_url, outbox) as operator:
            row = await operator.find_row(notification_id)
            if row is None:
                raise CheckFailed(f"there is no notification {notification_id}; dispatcher list shows those that exist")
            limit = MAX_BIGINT if as_json else SHOWN_RECIPIENTS
            recipients, total = await operator.recipients(notification_id, limit)
        if as_json:
            print_json({**row, "next": next_step(row), "ledger": recipients})
        else:
            print_row(row, next_step(row))
            print_recipients(recipients, total)

    anyio.run(run)


def print_row(row: "RowDetails", next_step: str) -> None:
    """Print a row's columns, one a line."""
    from dispatcher.cli import output

    output.print_pairs([("id", row["id"]), ("status", output.status_text(row)), ("next", next_step)])
    columns: dict[str, Any] = {**row}
    for name, value in columns.items():
        is_time = name.endswith(("_at", "_until")) or name == "scheduled_for"
        if name not in HIDDEN_COLUMNS:
            output.print_pairs([(name.replace("_", " "), output.time_text(value) if is_time else value)])


def print_recipients(recipients: "list[RecipientRow]", total: int) -> None:
    """Print recipients, one a line. `total`: how many there are in all."""
    from dispatcher.cli import output

    output.say("recipients in the ledger:" if recipients else "Novu was not called for any recipient yet")
    for each in recipients:
        called = output.time_text(each["last_called_at"])
        outcome = each["error"] or each["outcome"]
        output.print_cells(
            f"  {each['recipient']}", each["generation"], each["state"], each["attempts"], called, outcome
        )
    if total > len(recipients):
        output.say(f"and {total - len(recipients)} more; --json prints all of them")


def tail(  # noqa: PLR0917  (Typer's)
    status: StatusNames = None,
    enterprise: Enterprise = None,
    workflow: Workflow = None,
    error: Error = None,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Print a line for each change of a notification, until Ctrl-C.

    Reads the newest rows and the rows in work twice a second. Of several changes between two readings it prints the
    last.
    """
    import anyio

    filters = filters_from(status, enterprise, workflow, error, (None, None), dead=False)

    async def run() -> None:
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import say

        async with open_operator(database_url, outbox) as operator:
            tracker = ChangeTracker()
            tracker.diff(await operator.recent_changes(filters, []))
            say("following; Ctrl-C ends it")
            while True:
                await anyio.sleep(TAIL_POLL_SECONDS)
                for row, was in tracker.diff(await operator.recent_changes(filters, tracker.open_ids)):
                    print_change(row, was, as_json=as_json)

    anyio.run(run)


def print_change(row: "WatchedRow", was: str | None, *, as_json: bool) -> None:
    """Print one change. `was`: the status before it, None for a row that `tail` had not read before."""
    from dispatcher.cli.output import next_event, print_cells, print_json, status_text, time_text

    if as_json:
        print_json({**row, "was": was}, lines=True)
        return
    status = status_text(row) if was is None else f"{was} -> {status_text(row)}"
    print_cells(time_text(row["at"]), row["id"], status, row["workflow"], next_event(row), row["error"])


class ChangeTracker:
    """Keeps the rows of the last reading, and compares the next reading with them."""

    def __init__(self) -> None:
        self._last: dict[int, WatchedRow] = {}
        self._newest_id: int | None = None
        self._last_read_at = ""

    @property
    def open_ids(self) -> list[int]:
        """The rows of the last reading that had not ended. The next one must include them: an end could hide them."""
        open_statuses = (Status.PENDING, Status.PROCESSING)
        return [id_ for id_, row in self._last.items() if row["status"] in open_statuses][-MAX_OPEN_IDS:]

    def diff(self, rows: "list[WatchedRow]") -> "list[tuple[WatchedRow, str | None]]":
        """Return the rows that changed since the last reading, each with its status then; None for a new row."""
        changes = list(self._changes(rows)) if self._newest_id is not None else []
        self._last = {row["id"]: row for row in rows}
        self._newest_id = max([self._newest_id or 0, *self._last])
        self._last_read_at = max([self._last_read_at, *(row["at"] for row in rows)])
        return changes

    def _changes(self, rows: "list[WatchedRow]") -> "Iterator[tuple[WatchedRow, str | None]]":
        for row in rows:
            before = self._last.get(row["id"])
            if row["matches"] and (self._is_new(row) if before is None else has_changed(before, row)):
                yield row, before["status"] if before else None

    def _is_new(self, row: "WatchedRow") -> bool:
        """Return whether a row that was not read before is new or changed, and not only an old row now within the
        limit."""
        touched = max(row["claimed_at"] or "", row["settled_at"] or "")
        return row["id"] > (self._newest_id or 0) or touched >= self._last_read_at


def has_changed(before: "WatchedRow", row: "WatchedRow") -> bool:
    """Return whether status, generation, attempts or end of a row changed."""
    return any(before[name] != row[name] for name in ("status", "generation", "attempts", "settled_at"))
