"""A row as it came from the outbox, turned into what can be sent, or into the reason in words why it cannot.

Payload and overrides stay JSON text: they are parsed once to see that every JSON reader can take them, and travel
unchanged.
"""

import json
from dataclasses import dataclass
from typing import Any

from dispatcher.decisions.identity import body_hash, transaction_id
from dispatcher.models.notification import Notification, Recipient, RecipientState

MAX_BYTES = 512 * 1024
"""Novu refuses a trigger whose payload is larger."""
MAX_RECIPIENTS = 100_000


@dataclass(frozen=True, slots=True)
class AcquiredRow:
    """A row this run holds. `open`: its gates are open now, so it may be sent."""

    notification: Notification
    eligible: bool


def parse_row(row: dict[str, Any]) -> AcquiredRow:
    """Return the row of queries/take.sql as a notification."""
    notification = Notification(
        id=row["notification_id"],
        generation=row["generation"],
        fence=row["fence"],
        attempts=row["attempts"],
        since_first_claim=row["since_first_claim"],
        age_seconds=row["age_seconds"],
        first_attempt=row["generation"] == 1 and row["attempts"] == 1 and not row["ledger"],
        validation_error=validation_error(row),
    )
    if notification.validation_error is None:
        notification.workflow_key = row["workflow_key"]
        notification.payload = row["payload"]
        notification.overrides = overrides_text(row)
        notification.body_hash = body_hash(row["workflow_key"], row["payload"], notification.overrides)
    if notification.validation_error is None or row["ledger"]:
        notification.recipients = parse_recipients(row)
    return AcquiredRow(notification, row["eligible"])


def parse_recipients(row: dict[str, Any]) -> list[Recipient]:
    """Return the distinct recipients in the row's order, each with what the ledger knows about it.

    A recipient the ledger knows but the row no longer names belongs to this generation all the same.
    """
    known = {entry[0]: entry for entry in row["ledger"] or []}
    named = [recipient for recipient in row["recipients"] or [] if recipient is not None]
    result: list[Recipient] = []
    for ordinal, name in enumerate(dict.fromkeys((*named, *known))):
        transaction = transaction_id(row["birth"], row["notification_id"], row["generation"], name)
        recipient = Recipient(name, ordinal, transaction)
        if name in known:
            restore_state(recipient, *known[name][1:])
        result.append(recipient)
    return result


def restore_state(
    recipient: Recipient, state: str, epoch: int, last: list[Any], ages: list[float], *outcome: Any
) -> None:
    """Put what the ledger knows into a recipient."""
    recipient.state, recipient.epoch = RecipientState(state), epoch
    recipient.call_key, recipient.call_ordinal, recipient.call_hash = last
    recipient.call_age, recipient.first_call_age = (age or 0 for age in ages)
    recipient.outcome, recipient.error = outcome


def validation_error(row: dict[str, Any]) -> str | None:
    """Return why this row can never be sent as it is, or None."""
    return workflow_error(row) or recipients_error(row["recipients"]) or json_errors(row)


def workflow_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with the row's Novu workflow."""
    if not row["has_workflow"]:
        return "notification_workflow_id is not set"
    if row["workflow_key"] is None:
        return "notification_workflow_id names no workflow"
    if not row["workflow_shared"]:  # said without its name: it is somebody else's
        return "notification_workflow_id names a workflow of another enterprise"
    if not row["workflow_usable"]:
        return f"workflow {row['workflow_key']!r:.200} is not published or is deactivated"
    return None


def recipients_error(names: list[str | None] | None) -> str | None:
    """Return what is wrong with the row's recipients."""
    if not names:
        return "recipients are empty"
    if any(name is None for name in names):
        return "recipients hold a NULL"
    if len(names) > MAX_RECIPIENTS:
        return f"{len(names)} recipients; at most {MAX_RECIPIENTS} fit into one notification"
    return None


def json_errors(row: dict[str, Any]) -> str | None:
    """Return what is wrong with payload or overrides."""
    size = row["payload_bytes"] + row["overrides_bytes"]
    if size > MAX_BYTES:
        return f"payload and overrides take {size} bytes; Novu takes at most {MAX_BYTES}"
    wrong = json_error("payload", row["payload"])
    if wrong is None and overrides_text(row) is not None:
        wrong = json_error("overrides", row["overrides"])
    return wrong


def overrides_text(row: dict[str, Any]) -> str | None:
    """Return the overrides' JSON text; SQL's NULL and JSON's null are both none."""
    return None if row["overrides"] == "null" else row["overrides"]


def json_error(column: str, text: str) -> str | None:
    """Return why `text` is no JSON object that every reader can take."""
    try:
        value = json.loads(text)
    except RecursionError:
        return f"{column} is nested too deeply"
    except ValueError as error:  # PostgreSQL lets only valid JSON in: what is left are numbers past Python's limit
        return f"{column} cannot be read: {error}"[:200]
    if not isinstance(value, dict):
        return f"{column} is not a JSON object"
    return None
