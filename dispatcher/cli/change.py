"""`dispatcher retry` and `retract`: change rows as an application would, after a look at what that means.

What was previewed is what is changed: a row that became something else meanwhile is left alone.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import Outbox, Url, ask_confirmation
from dispatcher.cli.row_filters import Dead, Enterprise, Error, Ids, Since, Status, Until, Workflow, filters_from

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import OperatorQueries, PreviewRow, RowFilter

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where nobody can be asked.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]

DEFAULTS = {"retry": ("FAILED", "PARTIAL"), "retract": ("PENDING", "PROCESSING")}
"""The statuses that filters mean when they name none: nothing that has reached somebody."""
LOCK_RETRIES = 8
LOCK_RETRY_SECONDS = 0.25
"""How often, and after which pause, rows that somebody else had locked are tried again."""


def retry(  # noqa: PLR0917  (Typer's)
    ids: Ids = None,
    status: Status = None,
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
    """Send ended notifications again, as a new sending to all their recipients.

    Filters without --status mean FAILED and PARTIAL ones.
    """
    chosen = row_selection("retry", ids, filters_from(status, enterprise, workflow, error, (since, until), dead=dead))
    change("retry", chosen, (database_url, outbox), reason, dry_run=dry_run, yes=yes, as_json=as_json)


def retract(  # noqa: PLR0917  (Typer's)
    ids: Ids = None,
    status: Status = None,
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
    """Keep notifications from being sent, and take back at Novu what it accepted already.

    Filters without --status mean PENDING and PROCESSING ones.
    """
    chosen = row_selection("retract", ids, filters_from(status, enterprise, workflow, error, (since, until), dead=dead))
    change("retract", chosen, (database_url, outbox), reason, dry_run=dry_run, yes=yes, as_json=as_json)


def row_selection(action: str, ids: list[int] | None, filters: "RowFilter") -> "RowFilter":
    """Return which rows are meant; ConfigurationError when that would be all there are."""
    from dispatcher.models.errors import ConfigurationError

    if ids:
        return replace(filters, ids=tuple(dict.fromkeys(ids)))
    if not filters.is_set:
        raise ConfigurationError(f"{action} which? Give ids, or a filter such as --status FAILED or --since 2h")
    return filters if filters.statuses or filters.dead else replace(filters, statuses=DEFAULTS[action])


def change(
    action: str,
    chosen: "RowFilter",
    place: tuple[str | None, str | None],
    reason: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Preview, ask, change; exit code 1 when something that was asked for by its id could not be done."""
    import anyio

    from dispatcher.cli.operator_session import open_operator

    async def preview() -> "list[PreviewRow]":
        async with open_operator(*place) as desk:
            return await desk.preview(chosen)

    async def carried_out(able: "list[PreviewRow]", done: list[int]) -> dict[int, str]:
        async with open_operator(*place) as desk:
            return await apply_changes(desk, action, able, reason, done)

    seen = anyio.run(preview)
    refused = {row.id: why for row in seen if (why := reason_against(action, row))}
    refused |= {each: "does not exist" for each in chosen.ids if each not in {row.id for row in seen}}
    able = [row for row in seen if row.id not in refused]
    print_preview(action, able, refused)
    done: list[int] = []
    if able and not dry_run:
        confirm(action, len(able), yes=yes)
        refused |= anyio.run(carried_out, able, done)
    print_result(action, done, refused, dry_run=dry_run, as_json=as_json)
    if refused and (chosen.ids or (not dry_run and len(done) < len(able))):
        raise typer.Exit(1)


def reason_against(action: str, row: "PreviewRow") -> str | None:
    """Return why this makes no sense for the row, and what does."""
    from dispatcher.postgres.operator_queries import BEING_RETRACTED

    if action == "retract":
        return "is retracted already" if row.status == "RETRACTED" else None
    match row.status:
        case "PENDING":
            return f"is PENDING: it is sent by itself; dispatcher show {row.id} says when"
        case "PROCESSING":
            return f"is PROCESSING: wait for how it ends; dispatcher show {row.id} says who has it"
        case "RETRACTED" if not row.retraction_noticed:
            return BEING_RETRACTED
        case _:
            return None


def print_preview(action: str, rows: "Sequence[PreviewRow]", refused: dict[int, str]) -> None:
    """Say what the change means, in numbers."""
    from dispatcher.cli.output import say

    by_status = ", ".join(f"{count} {status}" for status, count in sorted(Counter(row.status for row in rows).items()))
    target = {"retry": "PENDING", "retract": "RETRACTED"}[action]
    say(f"{action}: {len(rows)} notifications become {target}" + (f" ({by_status})" if rows else ""))
    accepted, unknown = sum(row.accepted for row in rows), sum(row.unknown for row in rows)
    facts = {
        "retry": [
            (sum(row.recipients for row in rows), "recipients get them"),
            (accepted, "of those recipients had Novu's acceptance the last time and GET IT AGAIN"),
            (unknown, "of those recipients may have it: the last outcome is unknown"),
            (sum(row.retry_waits for row in rows), "of the notifications are tried again anyway, for who lacks it"),
            (sum(row.closed for row in rows), "of the notifications wait on: not published, deactivated or not due"),
        ],
        "retract": [
            (accepted, "recipients are taken back at Novu, which may have delivered already"),
            (sum(row.status == "PROCESSING" for row in rows), "of the notifications are being sent at this moment"),
        ],
    }  # fmt: skip
    for number, words in facts[action]:
        if number:
            say(f"  {number} {words}")
    if refused:
        say(f"  {len(refused)} notifications are left alone")


def confirm(action: str, count: int, *, yes: bool) -> None:
    """Ask whether it shall be done; where nobody can be asked, `--yes` has to have said so."""
    from dispatcher.models.errors import ConfigurationError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"nobody is here to be asked whether to {action} {count}: say it with --yes")
    ask_confirmation(f"{action.capitalize()} {count}?")


async def apply_changes(
    desk: "OperatorQueries", action: str, rows: "list[PreviewRow]", reason: str | None, done: list[int]
) -> dict[int, str]:
    """Change the rows batch by batch, so that none is locked for long; return which could not be, and why."""
    import anyio

    from dispatcher.cli.output import say
    from dispatcher.postgres.operator_queries import CHANGE_BATCH_ROWS, RowFilter

    step = {"retry": desk.resend, "retract": desk.retract}[action]
    left = rows
    try:
        for turn in range(LOCK_RETRIES):
            await anyio.sleep(LOCK_RETRY_SECONDS if turn else 0)
            for first in range(0, len(left), CHANGE_BATCH_ROWS):
                done += await step(left[first : first + CHANGE_BATCH_ROWS], reason)
                print_progress(len(done), len(rows))
            changed = set(done)
            left = [row for row in left if row.id not in changed]
            if not left:
                return {}
    except BaseException:
        say(f"stopped: {len(done)} of {len(rows)} are done; running it again goes on with the rest")
        raise
    now = {row.id: row for row in await desk.preview(RowFilter(ids=tuple(row.id for row in left)))}
    return {row.id: why_unchanged(row, now.get(row.id)) for row in left}


def why_unchanged(row: "PreviewRow", now: "PreviewRow | None") -> str:
    """Return why a row of the preview was left as it is."""
    if now is None:
        return "was deleted meanwhile"
    if now.status != row.status:
        return f"became {now.status} meanwhile"
    if now.fence != row.fence:
        return "was sent meanwhile"
    return "is locked by another transaction: run this again when that has ended"


def print_progress(done: int, total: int) -> None:
    """Show how far it is, where somebody looks on."""
    from dispatcher.postgres.operator_queries import CHANGE_BATCH_ROWS

    if sys.stderr.isatty() and total > CHANGE_BATCH_ROWS:
        typer.echo(f"\r{done} of {total}", nl=done >= total, err=True)


def print_result(action: str, done: list[int], refused: dict[int, str], *, dry_run: bool, as_json: bool) -> None:
    """Report what was done, and what was not."""
    from dispatcher.cli.output import print_cells, print_json

    if as_json:
        print_json(
            {
                "action": action,
                "dry_run": dry_run,
                "changed": done,
                "left_alone": {str(each): refused[each] for each in refused},
            }
        )
        return
    for each in done:
        print_cells(each, {"retry": "PENDING", "retract": "RETRACTED"}[action])
    for each, why in refused.items():
        print_cells(each, why)
