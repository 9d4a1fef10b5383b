"""`dispatcher list`, `show` and `tail`: what is in the outbox, why, and what happens next."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.options import Outbox, Url
from dispatcher.cli.row_filters import (
    MAX_BIGINT,
    AsJson,
    Dead,
    Enterprise,
    Error,
    Since,
    Status,
    Until,
    Workflow,
    filters_from,
)

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import Row

PAGE = 500
TAIL_POLL_SECONDS = 0.5
SHOWN_RECIPIENTS = 50


def list_(  # noqa: PLR0917  (Typer's)
    status: Status = None,
    enterprise: Enterprise = None,
    workflow: Workflow = None,
    error: Error = None,
    since: Since = None,
    until: Until = None,
    dead: Dead = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them, page after page.")] = False,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """List notifications, newest first: a table on a terminal, elsewhere a line each, JSON with --json."""
    import anyio

    chosen = filters_from(status, enterprise, workflow, error, (since, until), dead=dead)

    async def run() -> None:
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import RowTable, print_json, say

        sheet, below, left = RowTable(), None, MAX_BIGINT if everything else limit
        async with open_operator(database_url, outbox) as desk:
            while left and (rows := await desk.list_rows(chosen, min(PAGE, left), below)):
                for row in rows if as_json else ():
                    print_json(row, lines=True)
                if not as_json:
                    sheet.add(rows)
                below, left = rows[-1]["id"], left - len(rows)
        if below is None:
            say("no rows")

    anyio.run(run)


def show(
    notification_id: Annotated[int, typer.Argument(metavar="ID", help="The notification.", min=1, max=MAX_BIGINT)],
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Show one notification: its state, its recipients with their outcomes, and what happens next and when."""
    import anyio

    async def run() -> None:
        from dispatcher.cli.next_step import next_step
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import print_json
        from dispatcher.models.errors import CheckFailed

        async with open_operator(database_url, outbox) as desk:
            row = await desk.find_row(notification_id)
            if row is None:
                raise CheckFailed(f"there is no notification {notification_id}; dispatcher list shows what there is")
            recipients, total = await desk.recipients(notification_id, MAX_BIGINT if as_json else SHOWN_RECIPIENTS)
        if as_json:
            print_json({**row, "next": next_step(row), "ledger": recipients})
        else:
            print_row(row, next_step(row), recipients, total)

    anyio.run(run)


def print_row(row: "Row", coming: str, recipients: "list[Row]", total: int) -> None:
    """Print a row for people."""
    from dispatcher.cli import output

    hidden = {"outcome", "now", "due", "held", "nodes_alive", "to_take_back", "retraction_noticed", "status"}
    hidden |= {"accepted", "unknown", "novu_transaction_id"}  # the recipients below tell
    output.print_pairs([("id", row["id"]), ("status", output.status(row)), ("next", coming)])
    times = {name for name in row if name.endswith(("_at", "_until")) or name == "scheduled_for"}
    for name in [name for name in row if name not in hidden | {"id"}]:
        output.print_pairs([(name.replace("_", " "), output.time_text(row[name]) if name in times else row[name])])
    output.say("recipients, as the ledger knows them:" if recipients else "no recipient was called yet")
    for each in recipients:
        called = output.time_text(each["last_called_at"])
        outcome = each["error"] or each["outcome"]
        output.print_cells(
            f"  {each['recipient']}", each["generation"], each["state"], each["attempts"], called, outcome
        )
    if total > len(recipients):
        output.say(f"and {total - len(recipients)} more; --json has them all")


def tail(  # noqa: PLR0917  (Typer's)
    status: Status = None,
    enterprise: Enterprise = None,
    workflow: Workflow = None,
    error: Error = None,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Follow what happens to notifications, a line for each change, until Ctrl-C.

    Looks twice a second at the newest rows and at what is in work: what happens between two looks shows as its result.
    """
    import anyio

    chosen = filters_from(status, enterprise, workflow, error, (None, None), dead=False)

    async def run() -> None:
        from dispatcher.cli.operator_session import open_operator
        from dispatcher.cli.output import say

        async with open_operator(database_url, outbox) as desk:
            watch = ChangeTracker()
            watch.diff(await desk.recent_changes(chosen, []))
            say("following; Ctrl-C ends it")
            while True:
                await anyio.sleep(TAIL_POLL_SECONDS)
                for row, was in watch.diff(await desk.recent_changes(chosen, watch.open_ids)):
                    print_change(row, was, as_json=as_json)

    anyio.run(run)


def print_change(row: "Row", was: str | None, *, as_json: bool) -> None:
    """Print one change."""
    from dispatcher.cli.output import next_event, print_cells, print_json, status, time_text

    if as_json:
        print_json({**row, "was": was}, lines=True)
    else:
        shown = status(row) if was is None else f"{was} -> {status(row)}"
        print_cells(
            time_text(row["at"]),
            row["id"],
            shown,
            row["workflow"],
            next_event({**row, "scheduled_for": None}),
            row["error"],
        )


class ChangeTracker:
    """What was seen last, so that the next look shows what is new."""

    def __init__(self) -> None:
        self._seen: dict[int, Row] = {}
        self._newest: int | None = None
        self._looked = ""

    @property
    def open_ids(self) -> list[int]:
        """Rows that have not ended: they may leave the sight of a look by ending."""
        return [id_ for id_, row in self._seen.items() if row["status"] in ("PENDING", "PROCESSING")][-PAGE:]

    def diff(self, rows: "list[Row]") -> "list[tuple[Row, str | None]]":
        """Return what changed since the last look, each with the status it had; None for a row not seen before."""
        found: list[tuple[Any, str | None]] = []
        for row in rows:
            before = self._seen.get(row["id"])
            if (
                self._newest is not None
                and row["matches"]
                and (self._is_new(row) if before is None else has_changed(before, row))
            ):
                found.append((row, before["status"] if before else None))
        self._seen = {row["id"]: row for row in rows}
        self._newest = max([self._newest or 0, *self._seen])
        self._looked = max([self._looked, *(row["at"] for row in rows)])
        return found

    def _is_new(self, row: "Row") -> bool:
        """Return whether a row not seen before is news, and not an old one that came into sight."""
        touched = max(row["claimed_at"] or "", row["settled_at"] or "")
        return row["id"] > (self._newest or 0) or touched >= self._looked


def has_changed(before: "Row", row: "Row") -> bool:
    """Return whether something happened to a row."""
    return any(before[name] != row[name] for name in ("status", "generation", "attempts", "settled_at"))
