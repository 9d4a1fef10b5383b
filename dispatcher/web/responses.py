"""What the trigger API decides and says about a row, in XNovu's keys. Pure: from a row of operations/row.sql to JSON.

A sending is started by its row alone, so a workflow goes by the name `notification-<id>`: Temporal's own id is known
only once a dispatcher has claimed the row, and a batch of rows shares one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dispatcher.postgres.operator_queries import BEING_RETRACTED, FINAL_STATUSES, PreviewRow

Row = Mapping[str, Any]


def workflow_name(notification_id: int) -> str:
    """Return the name of a notification's workflow."""
    return f"notification-{notification_id}"


def preview_of(row: Row) -> PreviewRow:
    """Return the row as a change expects it: what is no longer so is left alone."""
    return PreviewRow(
        id=row["id"],
        status=row["status"],
        retraction_noticed=row["retraction_noticed"],
        retry_waits=row["next_attempt_at"] is not None,
        closed=blocked_by(row) is not None,
        recipients=row["recipients"],
        accepted=row["accepted"],
        unknown=row["unknown"],
        fence=row["fence"],
    )


def blocked_by(row: Row) -> str | None:
    """Return why the row waits for somebody to let it go; its time alone is no such reason."""
    if row["publish_status"] != "PUBLISH":
        return f"is not published: its publish_status is {row['publish_status']}"
    return "is deactivated" if row["deactivated"] else None


def cannot_send(row: Row, *, resend: bool) -> str | None:
    """Return why the row cannot be sent, in words that follow its id."""
    if (why := blocked_by(row)) is not None:
        return why
    match row["status"]:
        case "RETRACTED" if not resend:
            return 'is retracted; "resend": true sends it all the same'
        case "RETRACTED" if not row["retraction_noticed"]:
            return BEING_RETRACTED
        case "FAILED" | "PARTIAL" if not resend and row["accepted"] + row["unknown"]:
            has, may = row["accepted"], row["unknown"]
            return (
                f"was accepted for {has} of {row['recipients']} recipients, perhaps for {may} more;"
                ' "resend": true sends it to all of them again'
            )
        case _:
            return None


def needs_reset(row: Row, *, resend: bool) -> bool:
    """Return whether only a change of the row sends it: the others are on their way, or were sent."""
    return row["status"] in (*FINAL_STATUSES, "RETRACTED") if resend else row["status"] in ("FAILED", "PARTIAL")


def in_progress(row: Row) -> bool:
    """Return whether more is to come by itself, and soon."""
    return row["status"] == "PROCESSING" or (row["status"] == "PENDING" and row["due"] and blocked_by(row) is None)


def xnovu_status(row: Row) -> str:
    """Return the status in XNovu's words: SCHEDULED and PARTIAL need not be ones that the table can hold."""
    if row["status"] == "PENDING" and not row["due"]:
        return "SCHEDULED"
    return "PARTIAL" if row["status"] == "FAILED" and row["outcome"] == "PARTIAL" else row["status"]


def result(row: Row, error: str | None = None) -> dict[str, Any]:
    """Return what became of a notification. `error`: why nothing did."""
    ended = row["status"] in FINAL_STATUSES
    return {
        "success": error is None and row["status"] == "SENT",
        "notificationId": row["id"],
        "workflowId": workflow_name(row["id"]),
        "temporalWorkflowId": row["temporal_workflow_id"],
        "transactionId": row["transaction_id"],
        "novuTransactionId": row["novu_transaction_id"],
        "status": xnovu_status(row),
        "error": error or (row["error"] if row["status"] in ("FAILED", "PARTIAL") else None),
        "nextAttemptAt": row["next_attempt_at"],
        "details": {
            "successCount": row["accepted"] or 0,
            "totalRecipients": row["recipients"],
            "duration": milliseconds(row["claimed_at"], row["settled_at"]) if ended else None,
        },
    }


def missing(notification_id: int) -> dict[str, Any]:
    """Return the result of a notification that is not there, or not ours to see."""
    return {"success": False, "notificationId": notification_id, "error": f"there is no notification {notification_id}"}


def queued(row: Row, error: str | None = None) -> dict[str, Any]:
    """Return that a notification is on its way, or why it is not."""
    if error is not None:
        return {"success": False, "notificationId": row["id"], "status": xnovu_status(row), "error": error}
    delay = milliseconds(row["now"], row["scheduled_for"])
    told = {
        "success": True,
        "notificationId": row["id"],
        "workflowId": workflow_name(row["id"]),
        "runId": None,
        "status": xnovu_status(row),
        "message": message(row),
    }
    if delay is not None and delay > 0:
        told["startDelay"] = delay
    if row["scheduled_for"] is not None:
        told["scheduledFor"] = row["scheduled_for"]
    return told


def message(row: Row) -> str:
    """Return where a notification stands that nothing keeps from being sent."""
    match xnovu_status(row):
        case "SCHEDULED":
            return f"Notification scheduled for {row['scheduled_for']}"
        case "PENDING":
            return "Notification queued"
        case "PROCESSING":
            return "Notification is being sent"
        case status:
            return f"Notification has ended: {status}"


def retracted(row: Row) -> dict[str, Any]:
    """Return that a notification is taken back, as far as it can be."""
    told = {"success": True, "notificationId": row["id"], "workflowId": workflow_name(row["id"])}
    return {**told, "status": "RETRACTED", "message": "Notification retracted"}


def batch_result(results: Sequence[Mapping[str, Any]], *, waited: bool) -> dict[str, Any]:
    """Return the results of several notifications."""
    good = sum(each["success"] for each in results)
    told = {"totalCount": len(results), "successCount": good, "results": results}
    if waited:
        return {"success": good == len(results), "async": False, **told}
    words = f"{good} of {len(results)} notifications queued"
    return {"success": good == len(results), "async": True, "workflowId": None, "runId": None, "message": words, **told}


def workflow_state(row: Row) -> dict[str, Any]:
    """Return the workflow of a notification as Temporal's states name it. Nobody asks Temporal: the row knows."""
    scheduled = xnovu_status(row) == "SCHEDULED" and blocked_by(row) is None
    running = in_progress(row) or scheduled
    ended = "CANCELLED" if row["status"] == "RETRACTED" else "COMPLETED"
    status = "RUNNING" if running else "NOT_STARTED" if row["status"] == "PENDING" else ended
    return {
        "workflowId": workflow_name(row["id"]),
        "temporalWorkflowId": row["temporal_workflow_id"],
        "status": status,
        "historyLength": None,
        "isRunning": running,
        "result": None if running or status == "NOT_STARTED" else result(row),
    }


def milliseconds(since: str | None, until: str | None) -> int | None:
    """Return the time between two of the database's; None where one is missing, or no calendar has it."""
    try:
        return round((datetime.fromisoformat(until or "") - datetime.fromisoformat(since or "")).total_seconds() * 1000)
    except ValueError:
        return None
