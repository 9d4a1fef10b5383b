"""The text and JSON of `dispatcher retry` and `dispatcher retract`: preview, progress, result, and refusals."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import typer

from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_rows import PreviewRow

Action = Literal["retry", "retract"]
TARGETS: dict[Action, Status] = {"retry": Status.PENDING, "retract": Status.RETRACTED}
"""The status that a changed row gets."""


def obstacle_text(action: Action, row: "PreviewRow") -> str | None:
    """Return why the action makes no sense for the row, with the remedy, as a sentence that follows the row's id."""
    from dispatcher.postgres.operator_decisions import RETRACTION_PENDING, Obstacle, resend_obstacle, retract_obstacle

    match resend_obstacle(row) if action == "retry" else retract_obstacle(row):
        case None:
            return None
        case Obstacle.NOT_SENT_YET:
            return f"is PENDING: a dispatcher will send it anyway; dispatcher show {row.id} says when"
        case Obstacle.IN_PROGRESS:
            return f"is PROCESSING: wait until it has ended; dispatcher show {row.id} names the node that works on it"
        case Obstacle.RETRACTION_NOT_DETECTED:
            return RETRACTION_PENDING
        case Obstacle.ALREADY_RETRACTED:
            return "is retracted already"


def print_preview(action: Action, rows: "Sequence[PreviewRow]", refused: int) -> None:
    """Print to stderr how many rows and recipients the change means. `refused`: how many rows are left alone."""
    from dispatcher.cli.output import say

    by_status = ", ".join(f"{count} {status}" for status, count in sorted(Counter(row.status for row in rows).items()))
    say(f"{action}: {len(rows)} notifications become {TARGETS[action]}" + (f" ({by_status})" if rows else ""))
    for number, text in retry_facts(rows) if action == "retry" else retract_facts(rows):
        if number:
            say(f"  {number} {text}")
    if refused:
        say(f"  {refused} notifications are left alone")


def retry_facts(rows: "Sequence[PreviewRow]") -> list[tuple[int, str]]:
    """Return the numbers that an operator should know before a retry, each with the rest of its sentence."""
    return [
        (sum(row.recipients for row in rows), "recipients get them"),
        (
            # Of a PROCESSING row only the outcome is written.
            sum(
                row.recipients if row.pruned and row.status == Status.SENT else row.accepted
                for row in rows
                if row.status != Status.PROCESSING
            ),
            "of those recipients were accepted by Novu before and GET IT AGAIN",
        ),
        (sum(row.unknown for row in rows), "of those recipients may have it: the outcome of the last call is unknown"),
        (
            sum(row.retry_waits for row in rows),
            "notifications will be retried automatically anyway, only for recipients that Novu has not accepted",
        ),
        (sum(row.closed for row in rows), "notifications will wait: they are not published, deactivated or not due"),
    ]


def retract_facts(rows: "Sequence[PreviewRow]") -> list[tuple[int, str]]:
    """Return the numbers that an operator should know before a retraction, each with the rest of its sentence."""
    return [
        (
            sum(row.accepted for row in rows if not row.pruned),
            "recipients are cancelled at Novu, which may have delivered to them already",
        ),
        (
            sum(row.pruned for row in rows),
            "notifications are older than DISPATCHER_LEDGER_RETENTION: nothing of them is cancelled at Novu",
        ),
        (sum(row.status == Status.PROCESSING for row in rows), "notifications are being sent at this moment"),
    ]


def print_progress(done: int, total: int) -> None:
    """Show on a terminal how many rows are changed, if there is more than one batch."""
    from dispatcher.postgres.lock_retry import CHANGE_BATCH_ROWS

    if sys.stderr.isatty() and total > CHANGE_BATCH_ROWS:
        typer.echo(f"\r{done} of {total}", nl=done >= total, err=True)


def print_result(
    action: Action, changed: Sequence[int], refused: dict[int, str], *, dry_run: bool, as_json: bool
) -> None:
    """Print the ids that were changed, and for every other row the reason."""
    from dispatcher.cli.output import print_cells, print_json

    left_alone = {str(each): why for each, why in refused.items()}
    result = {"action": action, "dry_run": dry_run, "changed": list(changed), "left_alone": left_alone}
    if as_json:
        print_json(result)
        return
    for each in changed:
        print_cells(each, TARGETS[action])
    for each, why in left_alone.items():
        print_cells(each, why)
