"""The trigger API's answers about a row, with XNovu's keys. Pure: from a row of `find_rows` to JSON.

A row alone causes a run, so a workflow is named `notification-<id>`. Temporal's own id exists only once a dispatcher
has claimed the row, and several rows of a batch share it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dispatcher.models.notification import FINAL_STATUSES, UNSUCCESSFUL, Status
from dispatcher.postgres.operator_decisions import (
    RETRACTION_PENDING,
    Obstacle,
    blocked_by,
    preview_of,
    resend_obstacle,
)
from dispatcher.postgres.operator_rows import RowDetails


def workflow_name(notification_id: int) -> str:
    """Return the name of a notification's workflow."""
    return f"notification-{notification_id}"


def cannot_send(row: RowDetails, *, resend: bool) -> str | None:
    """Return why the row cannot be sent, as a sentence that follows its id; None if it can be sent or is in work."""
    if (why := blocked_by(row)) is not None:
        return why
    if not resend and row["status"] == Status.RETRACTED:
        return 'is retracted; "resend": true sends it anyway'
    if not resend and row["status"] in UNSUCCESSFUL and row["accepted"] + row["unknown"]:
        return (
            f"was accepted for {row['accepted']} of {row['recipients']} recipients, perhaps for {row['unknown']} more;"
            ' "resend": true sends it to all of them again'
        )
    return RETRACTION_PENDING if resend_obstacle(preview_of(row)) is Obstacle.RETRACTION_NOT_DETECTED else None


def needs_reset(row: RowDetails, *, resend: bool) -> bool:
    """Return whether the row is sent only if it is set back to PENDING. Other rows are in work, or were sent."""
    return row["status"] in ({*FINAL_STATUSES, Status.RETRACTED} if resend else UNSUCCESSFUL)


def in_progress(row: RowDetails) -> bool:
    """Return whether a run works on the row, or a dispatcher may claim it now. Not if the table refused our write."""
    if row["refused"]:
        return False
    if row["status"] == Status.PENDING:
        return row["due"] and blocked_by(row) is None
    return row["status"] == Status.PROCESSING


def xnovu_status(row: RowDetails) -> str:
    """Return the status with XNovu's names: SCHEDULED for a row that is not due, PARTIAL also if the enum lacks it."""
    if row["status"] == Status.PENDING and not row["due"]:
        return "SCHEDULED"
    partial = row["status"] == Status.FAILED and row["outcome"] == Status.PARTIAL
    return Status.PARTIAL if partial else row["status"]


def result(row: RowDetails, error: str | None = None) -> dict[str, Any]:
    """Return the result of a notification's run. `error`: the reason why it cannot be sent."""
    ended = row["status"] in FINAL_STATUSES
    return {
        "success": error is None and row["status"] == Status.SENT,
        "notificationId": row["id"],
        "workflowId": workflow_name(row["id"]),
        "temporalWorkflowId": row["temporal_workflow_id"],
        "transactionId": row["transaction_id"],
        "novuTransactionId": row["novu_transaction_id"],
        "status": xnovu_status(row),
        "error": error or (row["error"] if row["status"] in UNSUCCESSFUL else None),
        "nextAttemptAt": row["next_attempt_at"],
        "details": {
            "successCount": row["accepted"] or 0,
            "totalRecipients": row["recipients"],
            "duration": milliseconds(row["claimed_at"], row["settled_at"]) if ended else None,
        },
    }


def missing(notification_id: int) -> dict[str, Any]:
    """Return the result of a notification that does not exist, or belongs to an enterprise that we do not serve."""
    return {"success": False, "notificationId": notification_id, "error": f"there is no notification {notification_id}"}


def queued(row: RowDetails, error: str | None = None) -> dict[str, Any]:
    """Return the state of a notification without waiting for its run. `error`: the reason why it cannot be sent."""
    if error is not None:
        return {"success": False, "notificationId": row["id"], "status": xnovu_status(row), "error": error}
    delay = milliseconds(row["now"], row["scheduled_for"])
    document = {
        "success": True,
        "notificationId": row["id"],
        "workflowId": workflow_name(row["id"]),
        "runId": None,
        "status": xnovu_status(row),
        "message": message(row),
    }
    if delay is not None and delay > 0:
        document["startDelay"] = delay
    if row["scheduled_for"] is not None:
        document["scheduledFor"] = row["scheduled_for"]
    return document


def message(row: RowDetails) -> str:
    """Return XNovu's message for the state of a notification that can be sent."""
    match xnovu_status(row):
        case "SCHEDULED":
            return f"Notification scheduled for {row['scheduled_for']}"
        case Status.PENDING:
            return "Notification queued"
        case Status.PROCESSING:
            return "Notification is being sent"
        case status:
            return f"Notification has ended: {status}"


def retracted(row: RowDetails) -> dict[str, Any]:
    """Return the result of a retraction."""
    document = {"success": True, "notificationId": row["id"], "workflowId": workflow_name(row["id"])}
    return {**document, "status": Status.RETRACTED, "message": "Notification retracted"}


def batch_result(results: Sequence[Mapping[str, Any]], *, waited: bool) -> dict[str, Any]:
    """Return the results of several notifications. `waited`: whether the request waited for the runs."""
    good = sum(each["success"] for each in results)
    counts = {"totalCount": len(results), "successCount": good, "results": results}
    if waited:
        return {"success": good == len(results), "async": False, **counts}
    text = f"{good} of {len(results)} notifications queued"
    return {
        "success": good == len(results),
        "async": True,
        "workflowId": None,
        "runId": None,
        "message": text,
        **counts,
    }


def workflow_state(row: RowDetails) -> dict[str, Any]:
    """Return the state of a notification's workflow with Temporal's names. The row tells it; Temporal is not asked."""
    scheduled = xnovu_status(row) == "SCHEDULED" and blocked_by(row) is None
    running = in_progress(row) or scheduled
    ended = "CANCELLED" if row["status"] == Status.RETRACTED else "COMPLETED"
    status = "RUNNING" if running else "NOT_STARTED" if row["status"] == Status.PENDING else ended
    return {
        "workflowId": workflow_name(row["id"]),
        "temporalWorkflowId": row["temporal_workflow_id"],
        "status": status,
        "historyLength": None,
        "isRunning": running,
        "result": None if running or status == "NOT_STARTED" else result(row),
    }


def milliseconds(since: str | None, until: str | None) -> int | None:
    """Return the milliseconds between two ISO 8601 times; None if one is missing or Python cannot represent it."""
    try:
        return round((datetime.fromisoformat(until or "") - datetime.fromisoformat(since or "")).total_seconds() * 1000)
    except ValueError:
        return None
