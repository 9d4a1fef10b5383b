"""`dispatcher retry` and `dispatcher retract`: preview the rows, ask, and change them as an application would.

Only previewed rows are changed. A row that differs from its preview by then is left alone.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.change_output import Action, obstacle_text, print_preview, print_progress, print_result
from dispatcher.cli.filter_options import (
    Dead,
    Enterprise,
    Error,
    Ids,
    Since,
    StatusNames,
    Until,
    Workflow,
    filters_from,
)
from dispatcher.cli.options import Outbox, Url, ask_confirmation
from dispatcher.models.notification import UNSUCCESSFUL, Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import OperatorQueries
    from dispatcher.postgres.operator_rows import PreviewRow
    from dispatcher.postgres.row_filter import RowFilter

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where there is no terminal.")]
Reason = Annotated[str | None, typer.Option("--reason", help="The reason, for the record.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]

DEFAULT_STATUSES: dict[Action, tuple[Status, ...]] = {
    "retry": UNSUCCESSFUL,
    "retract": (Status.PENDING, Status.PROCESSING),
}
"""The statuses that filters mean if `--status` is not given: none in which every recipient has the notification."""


def change_command(action: Action, help_text: str) -> Callable[..., None]:
    """Return the Typer command for the action. Typer reads options from its parameters, and help from its docstring."""

    def command(  # noqa: PLR0917  (Typer's)
        ids: Ids = None,
        status: StatusNames = None,
        enterprise: Enterprise = None,
        workflow: Workflow = None,
        error: Error = None,
        since: Since = None,
        until: Until = None,
        dead: Dead = False,
        reason: Reason = None,
        dry_run: DryRun = False,
        yes: Yes = False,
        database_url: Url = None,
        outbox: Outbox = None,
        as_json: AsJson = False,
    ) -> None:
        filters = filters_from(status, enterprise, workflow, error, (since, until), dead=dead)
        selection = row_selection(action, ids, filters)
        change(action, selection, (database_url, outbox), reason, dry_run=dry_run, yes=yes, as_json=as_json)

    command.__name__ = action
    command.__doc__ = help_text
    return command


retry = change_command(
    "retry",
    """Send ended notifications again, to all their recipients.

    Filters without --status select FAILED and PARTIAL notifications.
    """,
)
retract = change_command(
    "retract",
    """Stop notifications from being sent, and cancel at Novu the triggers that it has accepted.

    Filters without --status select PENDING and PROCESSING notifications.
    """,
)


def row_selection(action: Action, ids: list[int] | None, filters: "RowFilter") -> "RowFilter":
    """Return the filter that ids and options make. Raises ConfigurationError if it would select every row."""
    from dispatcher.models.errors import ConfigurationError

    if ids:
        return replace(filters, ids=tuple(dict.fromkeys(ids)))
    if not filters.is_set:
        raise ConfigurationError(f"{action} which rows? Give ids, or a filter such as --status FAILED or --since 2h")
    return filters if filters.statuses or filters.dead else replace(filters, statuses=DEFAULT_STATUSES[action])


def change(
    action: Action,
    selection: "RowFilter",
    database: tuple[str | None, str | None],
    reason: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Preview, ask, change. Exit code 1 if a row given by its id, or a previewed row, could not be changed.

    `database`: the options --database-url and --outbox.
    """
    import anyio

    from dispatcher.cli.operator_session import open_operator

    async def preview() -> "list[PreviewRow]":
        async with open_operator(*database) as operator:
            return await operator.preview(selection)

    async def apply(rows: "Sequence[PreviewRow]") -> tuple[list[int], dict[int, str]]:
        async with open_operator(*database) as operator:
            return await apply_changes(operator, action, rows, reason)

    rows = anyio.run(preview)
    refused = {row.id: why for row in rows if (why := obstacle_text(action, row))}
    refused |= {each: "does not exist" for each in selection.ids if each not in {row.id for row in rows}}
    changeable = [row for row in rows if row.id not in refused]
    print_preview(action, changeable, len(refused))
    changed: list[int] = []
    if changeable and not dry_run:
        confirm(action, len(changeable), yes=yes)
        changed, unchanged = anyio.run(apply, changeable)
        refused |= unchanged
    print_result(action, changed, refused, dry_run=dry_run, as_json=as_json)
    if refused and (selection.ids or (not dry_run and len(changed) < len(changeable))):
        raise typer.Exit(1)


def confirm(action: Action, count: int, *, yes: bool) -> None:
    """Ask whether to change the rows. Raises ConfigurationError without a terminal, unless `--yes` was given."""
    from dispatcher.models.errors import ConfigurationError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"cannot ask whether to {action} {count} notifications without a terminal: add --yes")
    ask_confirmation(f"{action.capitalize()} {count}?")


async def apply_changes(
    operator: "OperatorQueries", action: Action, rows: "Sequence[PreviewRow]", reason: str | None
) -> tuple[list[int], dict[int, str]]:
    """Change the rows; return the ids that were changed, and the reason for every row that was not."""
    from dispatcher.cli.output import say
    from dispatcher.postgres.lock_retry import change_with_retry
    from dispatcher.postgres.row_filter import RowFilter

    change_rows = {"retry": operator.resend, "retract": operator.retract}[action]
    done = 0

    def count_batch(changed: int) -> None:
        nonlocal done
        done = changed
        print_progress(done, len(rows))

    try:
        changed = await change_with_retry(lambda batch: change_rows(batch, reason), rows, count_batch)
    except BaseException:
        say(f"stopped: {done} of {len(rows)} are done; run the command again to change the rest")
        raise
    left = {row.id: row for row in rows if row.id not in set(changed)}
    if not left:
        return changed, {}
    now = {row.id: row for row in await operator.preview(RowFilter(ids=tuple(left)))}
    return changed, {
        row.id: operator.refusals.get(row.id) or why_unchanged(row, now.get(row.id)) for row in left.values()
    }


def why_unchanged(row: "PreviewRow", now: "PreviewRow | None") -> str:
    """Return why a previewed row was not changed; `now`: the row as it is, None if it was deleted."""
    if now is None:
        return "was deleted meanwhile"
    if now.status != row.status:
        return f"became {now.status} meanwhile"
    if now.fence != row.fence:
        return "was sent meanwhile"
    return "is locked by another transaction: run this command again when that transaction has ended"
