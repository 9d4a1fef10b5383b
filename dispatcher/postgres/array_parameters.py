"""Turns calls, outcomes and cancels into the array parameters of the statements that write many rows at once.

A statement reads the arrays with `unnest`, each array as one column. The names here are those of its parameters.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.models.claims import ForeignStatus
from dispatcher.models.notification import Notification, PendingCancel, Status

RECIPIENT_KEY = ("notifications", "recipients")
CALL_COLUMNS = (*RECIPIENT_KEY, "ordinals", "transactions", "epochs", "call_keys", "call_ordinals", "hashes")
OUTCOME_COLUMNS = (*RECIPIENT_KEY, "states", "epochs", "outcomes", "errors")
FINAL_COLUMNS = ("final_ids", "statuses", "error_details", "first_transactions", "retry_ins", "reasons")
STATUS_COLUMNS = ("ids", "fences", "theirs", "ours")
CANCEL_COLUMNS = (
    *("notifications", "generations", "recipients", "leases"),
    *("states", "outcomes", "errors", "attempts", "retry_ins"),
)

Arrays = dict[str, list[Any]]


def arrays(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Arrays:
    """Return one array for each name: the values of that column of `rows`."""
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def ids_and_fences(notifications: Iterable[Notification]) -> Arrays:
    """Return the arrays `ids` and `fences`, with each notification once."""
    fences = {notification.id: notification.fence for notification in notifications}
    return {"ids": list(fences), "fences": list(fences.values())}


def recipient_key(member: Member) -> tuple[int, str]:
    """Return the notification's and the recipient's id."""
    return member.notification.id, member.recipient.id


def call_arrays(calls: Iterable[Call]) -> Arrays:
    """Return the arrays of record_calls.sql: one row for each recipient of each call."""
    rows = [
        (
            *recipient_key(member),
            member.recipient.ordinal,
            member.recipient.transaction_id,
            member.recipient.epoch,
            call.key,
            index,
            member.notification.body_hash,
        )
        for call in calls
        for index, member in enumerate(call.members)
    ]
    return arrays(CALL_COLUMNS, rows)


def outcome_arrays(members: Iterable[Member]) -> Arrays:
    """Return the arrays of settle.sql with one row for each recipient."""
    rows = [
        (*recipient_key(member), recipient.state.value, recipient.epoch, recipient.outcome, recipient.error)
        for member in members
        for recipient in (member.recipient,)
    ]
    return arrays(OUTCOME_COLUMNS, rows)


def final_arrays(notifications: Iterable[Notification], stored_status: Callable[[Status], str]) -> Arrays:
    """Return the arrays of settle.sql with one row for each finished notification.

    `stored_status` returns the label to write for a final status.
    """
    rows = [
        (
            notification.id,
            stored_status(final.status),
            final.error_details,
            final.first_transaction_id,
            final.retry_in,
            final.reason,
        )
        for notification in notifications
        if (final := notification.final_status) is not None
    ]
    return arrays(FINAL_COLUMNS, rows)


def status_arrays(found: Iterable[ForeignStatus]) -> Arrays:
    """Return the arrays of put_statuses_back.sql: one row for each notification."""
    return arrays(STATUS_COLUMNS, [(row.notification_id, row.fence, row.theirs, row.ours) for row in found])


def cancel_arrays(cancels: Iterable[PendingCancel]) -> Arrays:
    """Return the arrays of record_cancels.sql: one row for each cancel call."""
    rows = [
        (
            cancel.notification_id,
            cancel.generation,
            cancel.recipient,
            cancel.lease_until,
            str(cancel.state),
            cancel.outcome,
            cancel.error,
            cancel.attempts,
            cancel.retry_in,
        )
        for cancel in cancels
    ]
    return arrays(CANCEL_COLUMNS, rows)
