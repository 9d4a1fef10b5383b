"""Turns an acquired outbox row into a notification, and says why a row can never be sent.

Payload and overrides stay JSON text and are sent unchanged. They are parsed once here, only to check that every JSON
parser can read them.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

from dispatcher.decisions.identity import body_hash, transaction_id
from dispatcher.models.notification import DEFAULT_LIMITS, Notification, Recipient, RecipientState, RowLimits

SEVERITIES = (None, "none", "low", "medium", "high")
"""Novu accepts an event with another `overrides.severity`, and then never runs it."""


MAX_READING_DEATHS = 3
"""A row is not read any more after this many processes died while they read it alone, one after the other."""


class OutboxRow(TypedDict):
    """The columns of one row as queries/acquire.sql returns them."""

    notification_id: int
    birth: str
    generation: int
    fence: int
    attempts: int
    since_first_claim: timedelta
    age_seconds: float
    eligible: bool
    enterprise: str
    has_workflow: bool
    workflow_key: str | None
    workflow_shared: bool
    workflow_usable: bool
    has_content: bool
    """Whether payload and overrides were read."""
    payload: str | None
    payload_bytes: int
    overrides: str | None
    overrides_bytes: int
    recipient_count: int
    recipients: list[str | None] | None
    """None: they were not read, because they are too many."""
    ledger: list[list[Any]] | None
    recipients_missing: int | None
    """The recipients that the ledger's head counted, minus those in `ledger`. None: it did not count them."""
    reading_deaths: NotRequired[int]
    """Processes that died one after the other while they read this row alone."""
    read_at: NotRequired[datetime]
    since_restore: NotRequired[float | None]
    """Seconds since the database was seen to have lost commits. None: it has not, or the row became due later."""


class LedgerEntry(NamedTuple):
    """One recipient in the column `ledger`, a JSON array with these values."""

    recipient: str
    state: str
    epoch: int
    last_call: tuple[str | None, int | None, str | None]
    """Key, position in the call and body hash of the last call."""
    call_ages: tuple[float | None, float | None]
    """Seconds since the last call and since the first call."""
    outcome: str | None
    error: str | None
    calls: int = 0
    transaction_id: str = ""


@dataclass(frozen=True, slots=True)
class AcquiredRow:
    """A row that this run has acquired."""

    notification: Notification
    eligible: bool
    """Whether the row may be sent now; otherwise the run releases it."""
    read_at: datetime | None = None
    """The database's time when it was read."""


def parse_row(columns: dict[str, Any], acquired_at: float = 0.0, limits: RowLimits = DEFAULT_LIMITS) -> AcquiredRow:
    """Return a row of queries/acquire.sql as a notification.

    `columns` are those of `OutboxRow`. `acquired_at` is the reading of `time.monotonic()` when the row was acquired.
    """
    row = cast("OutboxRow", columns)
    is_unread = row.get("reading_deaths", 0) >= MAX_READING_DEATHS
    notification = Notification(
        id=row["notification_id"],
        generation=row["generation"],
        fence=row["fence"],
        attempts=row["attempts"],
        since_first_claim=row["since_first_claim"],
        age_seconds=row["age_seconds"],
        acquired_at=acquired_at,
        enterprise=row["enterprise"],
        first_attempt=row["generation"] == 1 and row["attempts"] == 1 and not row["ledger"],
        validation_error=validation_error(row, limits),
        has_unread_recipients=is_unread or row["recipient_count"] > limits.max_recipients,
    )
    if notification.validation_error is None and row["has_content"]:
        notification.workflow_key = row["workflow_key"] or ""
        notification.payload = row["payload"] or ""
        notification.overrides = overrides_text(row)
        notification.body_hash = body_hash(notification.workflow_key, notification.payload, notification.overrides)
    if notification.validation_error is None or row["ledger"]:
        notification.recipients = parse_recipients(row, notification.body_hash)
    return AcquiredRow(notification, row["eligible"], row.get("read_at"))


def parse_recipients(row: OutboxRow, content: str) -> list[Recipient]:
    """Return the distinct recipients in the row's order, each with its state in the ledger.

    Recipients that are in the ledger but no longer in the row follow: they belong to this generation, too, but are
    called only to resolve an unknown outcome. If one of the ledger's two tables has lost rows, outcomes that it cannot
    prove are unknown. If the database has lost commits, so is every call until then. `content`: the row's body hash.
    """
    missing, since_restore = row["recipients_missing"] or 0, row.get("since_restore")
    known = {entry.recipient: entry for entry in (LedgerEntry(*values) for values in row["ledger"] or [])}
    named = dict.fromkeys(recipient for recipient in row["recipients"] or [] if recipient is not None)
    result: list[Recipient] = []
    for ordinal, name in enumerate(dict.fromkeys((*named, *known))):
        transaction = transaction_id(row["birth"], row["notification_id"], row["generation"], name)
        recipient = Recipient(name, ordinal, transaction)
        if name in known:
            restore_state(recipient, known[name])
            if missing < 0 and recipient.state in (RecipientState.ACCEPTED, RecipientState.REFUSED):
                recipient.state = RecipientState.UNKNOWN
        elif missing > 0:  # perhaps it was called before: without the call's key it is looked up
            recipient.state, recipient.call_key, recipient.call_hash = RecipientState.UNKNOWN, "", content
            recipient.call_age = row["since_first_claim"].total_seconds()
        if since_restore is not None and not (name in known and recipient.call_age < since_restore):
            forget_call(recipient, since_restore, content)
        if row["recipients"] is not None:
            apply_removal(recipient, removed=name not in named)
        result.append(recipient)
    return result


def forget_call(recipient: Recipient, seconds: float, content: str) -> None:
    """Make an unsettled recipient be looked up: a call that the ledger lacks may have been made `seconds` ago."""
    if not recipient.is_final:
        recipient.state, recipient.call_age = RecipientState.SENDING, seconds
        recipient.call_key, recipient.call_hash = "", content  # without the call's key it cannot be repeated


def apply_removal(recipient: Recipient, *, removed: bool) -> None:
    """Change a recipient by whether the owner removed it from the row, or has added it again since."""
    recipient.removed = removed
    if removed and recipient.state in (RecipientState.PLANNED, RecipientState.REFUSED):
        recipient.withdraw()
    elif not removed and recipient.is_withdrawn:
        recipient.state = RecipientState.PLANNED


def restore_state(recipient: Recipient, entry: LedgerEntry) -> None:
    """Set a recipient's state to that of its ledger entry."""
    recipient.state, recipient.epoch = RecipientState(entry.state), entry.epoch
    recipient.call_key, recipient.call_ordinal, recipient.call_hash = entry.last_call
    recipient.call_age, recipient.first_call_age = (age or 0 for age in entry.call_ages)
    recipient.outcome, recipient.error, recipient.calls = entry.outcome, entry.error, entry.calls
    recipient.transaction_id = entry.transaction_id or recipient.transaction_id


def validation_error(row: OutboxRow, limits: RowLimits) -> str | None:
    """Return why this row can never be sent as it is, or None."""
    return (
        reading_error(row)
        or workflow_error(row)
        or recipients_error(row, limits.max_recipients)
        or json_errors(row, limits.max_payload_bytes)
    )


def reading_error(row: OutboxRow) -> str | None:
    """Return that processes died of reading this row, or None."""
    if row.get("reading_deaths", 0) < MAX_READING_DEATHS:
        return None
    return "three tries ended with the death of the process that read it"


def workflow_error(row: OutboxRow) -> str | None:
    """Return why the row's Novu workflow cannot be triggered, or None."""
    if not row["has_workflow"]:
        return "notification_workflow_id is not set"
    if row["workflow_key"] is None:
        return "notification_workflow_id names no workflow"
    if not row["workflow_shared"]:  # without its name, which belongs to another enterprise
        return "notification_workflow_id names a workflow of another enterprise"
    if not row["workflow_usable"]:
        return f"workflow {row['workflow_key']!r:.200} is not published or is deactivated"
    return None


def recipients_error(row: OutboxRow, max_recipients: int) -> str | None:
    """Return why the row's recipients cannot be used, or None."""
    if row["recipient_count"] > max_recipients:
        return f"{row['recipient_count']} recipients; at most {max_recipients} fit into one notification"
    names = row["recipients"]
    if not names:
        return "recipients are empty"
    if any(name is None for name in names):
        return "recipients hold a NULL"
    return None


def json_errors(row: OutboxRow, max_bytes: int) -> str | None:
    """Return why payload or overrides cannot be sent, or None."""
    size = row["payload_bytes"] + row["overrides_bytes"]
    if size > max_bytes:
        return f"payload and overrides take {size} bytes; the limit is {max_bytes} (DISPATCHER_MAX_PAYLOAD)"
    if not row["has_content"]:
        return None
    error = json_error("payload", row["payload"] or "")
    overrides = overrides_text(row)
    if error is None and overrides is not None:
        error = json_error("overrides", overrides)
    return error


def overrides_text(row: OutboxRow) -> str | None:
    """Return the overrides' JSON text; None for SQL's NULL and for JSON's null."""
    return None if row["overrides"] == "null" else row["overrides"]


def json_error(column: str, text: str) -> str | None:
    """Return why `text` is not a JSON object that every parser can read, or None."""
    try:
        value = json.loads(text)
    except RecursionError:
        return f"{column} is nested too deeply"
    except (
        ValueError
    ) as error:  # PostgreSQL stores only valid JSON; Python refuses just numbers past its limit of digits
        return f"{column} cannot be read: {error}"[:200]
    if not isinstance(value, dict):
        return f"{column} is not a JSON object"
    if column == "overrides" and value.get("severity") not in SEVERITIES:
        return f"overrides.severity is {value['severity']!r:.80}; Novu knows none, low, medium and high"
    return None
