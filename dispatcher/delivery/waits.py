"""Recipients that wait for their next call, although no try of theirs has failed."""

from collections.abc import Iterable, Sequence

from dispatcher.decisions.call_planning import Member
from dispatcher.models.notification import Notification

THROTTLED_SECONDS = 1.0
"""Least wait of a recipient that is not sent because of the rate limit, or because its last call may be in flight."""
GO_ON_SECONDS = 0.01
"""Wait of a recipient whose call is left to the batch queue. 0 would mean that it does not wait."""


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
