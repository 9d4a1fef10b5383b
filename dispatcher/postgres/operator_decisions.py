"""Whether a row may be sent again or retracted, decided once for the commands and the HTTP API. Pure.

The decision is an `Obstacle`; the commands and the API each have their own sentence for it, because the remedies that
they can name differ.
"""

from enum import Enum

from dispatcher.models.notification import Status
from dispatcher.postgres.operator_rows import PreviewRow, RowDetails

RETRACTION_PENDING = (
    "is being retracted: a dispatcher has not detected it yet, which takes about two seconds; after that it can be sent"
    " again"
)
"""The sentence for `Obstacle.RETRACTION_NOT_DETECTED`; it follows the row's id."""


class Obstacle(Enum):
    """Why a change makes no sense for a row now."""

    NOT_SENT_YET = "a dispatcher will send it without being asked"
    IN_PROGRESS = "a run works on it"
    RETRACTION_NOT_DETECTED = "its cancellation at Novu is not planned yet"
    ALREADY_RETRACTED = "it is retracted"


def resend_obstacle(row: PreviewRow) -> Obstacle | None:
    """Return why the row cannot be sent again, or None if it can."""
    if row.refused:
        return None
    match row.status:
        case Status.PENDING:
            return Obstacle.NOT_SENT_YET
        case Status.PROCESSING:
            return Obstacle.IN_PROGRESS
        case Status.RETRACTED if not row.retraction_noticed:
            return Obstacle.RETRACTION_NOT_DETECTED
        case _:
            return None


def retract_obstacle(row: PreviewRow) -> Obstacle | None:
    """Return why the row cannot be retracted, or None if it can."""
    return Obstacle.ALREADY_RETRACTED if row.status == Status.RETRACTED else None


def blocked_by(row: RowDetails) -> str | None:
    """Return why the application keeps the row from being sent, or None. A time in the future is no such reason."""
    if row["publish_status"] != "PUBLISH":
        return f"is not published: its publish_status is {row['publish_status']}"
    return "is deactivated" if row["deactivated"] else None


def preview_of(row: RowDetails) -> PreviewRow:
    """Return the row as a change expects it: a row that differs by then is left alone."""
    return PreviewRow(
        id=row["id"],
        status=row["status"],
        retraction_noticed=row["retraction_noticed"],
        retry_waits=row["next_attempt_at"] is not None,
        closed=blocked_by(row) is not None,
        recipients=row["recipients"] or 0,
        accepted=row["accepted"],
        unknown=row["unknown"],
        fence=row["fence"],
        refused=row["refused"],
        pruned=row["pruned"],
    )
