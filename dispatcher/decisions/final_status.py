"""A notification's final status and its `error_details`, decided from its recipients. Pure: no I/O, no clock."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dispatcher.models.notification import FinalStatus, Notification, Recipient, RecipientState, Status

MAX_RESULTS = 1000
"""`error_details` lists at most this many recipients; the ledger has all."""


def decide_status(row: Notification, retry_in: timedelta | None) -> FinalStatus:
    """Return how this run ends for `row`. `retry_in`: time until its next automatic run; None: there is none."""
    recipients = row.counted_recipients
    status = status_of(recipients)
    if status is Status.SENT and row.has_unread_recipients:
        status = Status.PARTIAL
    accepted = [recipient.transaction_id for recipient in recipients if recipient.state is RecipientState.ACCEPTED]
    reason = None if status is Status.SENT else row.validation_error or failure_text(recipients)
    details = {
        "novu_transaction_ids": accepted[:MAX_RESULTS],
        "results": [result_entry(recipient) for recipient in recipients[:MAX_RESULTS]],
        "successCount": len(accepted),
        "totalRecipients": len(recipients),
        "outcome": status,
        "generation": row.generation,
        "attempts": row.attempts,
    }
    if reason is not None:
        details |= {"error": reason, "dead_letter": retry_in is None}
    return FinalStatus(status, json.dumps(details), accepted[0] if accepted else None, retry_in, reason)


def status_of(recipients: Sequence[Recipient]) -> Status:
    """Return SENT if Novu accepted every recipient, PARTIAL if it accepted some, FAILED if none."""
    accepted = sum(recipient.state is RecipientState.ACCEPTED for recipient in recipients)
    if accepted == 0:
        return Status.FAILED
    return Status.SENT if accepted == len(recipients) else Status.PARTIAL


def failure_text(recipients: Sequence[Recipient]) -> str:
    """Return why not every recipient was accepted: the first error, and the number of recipients not accepted."""
    failed = [recipient for recipient in recipients if recipient.state is not RecipientState.ACCEPTED]
    errors = [recipient.error for recipient in failed if recipient.error]
    first = errors[0] if errors else "the run ended without an answer from Novu"
    return first if len(failed) == 1 else f"{first} ({len(failed)} of {len(recipients)} recipients not accepted)"


def failure_code(row: Notification) -> str:
    """Return a short text for logs on why not every recipient was accepted.

    It never quotes Novu, because Novu's messages can repeat values of a payload.
    """
    failed = [
        recipient.outcome for recipient in row.counted_recipients if recipient.state is not RecipientState.ACCEPTED
    ]
    return row.validation_error or next((outcome for outcome in failed if outcome), "no answer")


def result_entry(recipient: Recipient) -> dict[str, Any]:
    """Return one recipient's entry in `error_details.results`, in the shape that XNovu writes."""
    if recipient.state is RecipientState.ACCEPTED:
        return {"recipientId": recipient.id, "success": True, "transactionId": recipient.transaction_id}
    error = recipient.error or "not sent"
    entry = {"recipientId": recipient.id, "success": False, "error": error}
    if recipient.state in (RecipientState.UNKNOWN, RecipientState.SENDING):
        entry["outcome"] = "unknown"  # Novu may have accepted it; it does not count as sent
    return entry
