"""Recipients that a try does not call, although nothing is known against a later call. That costs them no try."""

from collections.abc import Collection, Iterable, Sequence

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.models.notification import Notification

THROTTLED_SECONDS = 1.0
"""Least wait of a recipient that is not sent because of the rate limit, or because its last call may be in flight."""
GO_ON_SECONDS = 0.01
"""Wait of a recipient whose call is left to the batch queue. 0 would mean that it does not wait."""


def without_rows(call: Call, rejected: Collection[int]) -> Call | None:
    """Return the call without the members of these rows; None: it must not be made, or has no member left.

    The repetition of a call with an unknown outcome is made with all its members or not at all: Novu would take another
    key for another call. The members that are left wait, and are looked up in the next try.
    """
    kept = tuple(member for member in call.members if member.notification.id not in rejected)
    if len(kept) < len(call.members) and any(member.is_unknown for member in kept):
        make_wait(kept, 0)
        return None
    return Call(kept) if kept else None


def make_wait(members: Iterable[Member], seconds: float) -> None:
    """Make recipients wait for their look-up, without counting a try."""
    for member in members:
        member.recipient.retry_after, member.recipient.throttled = max(seconds, THROTTLED_SECONDS), True


def mark_throttled(rows: Sequence[Notification], seconds: float) -> None:
    """Make all recipients that were not sent yet wait, without counting a try."""
    for row in rows:
        for recipient in row.recipients:
            if not recipient.is_final and not recipient.retry_after:
                recipient.throttled, recipient.retry_after = True, seconds
