"""Which calls to make: groups a run's recipients into requests Novu accepts. Pure.

A call whose outcome is unknown is repeated as it was: same members, same order, and so the same key and bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from dispatcher.identity import bulk_key, single_key
from dispatcher.models import Event, Notification, Recipient, State

SINGLE_CALLS = 10
"""Up to so many recipients each get a call of their own; a bulk call costs 100 rate tokens however small it is."""
BULK_EVENTS = 100
BULK_BYTES = 5_000_000
"""Novu takes 100 events and about 20 MB a call."""


@dataclass(frozen=True, slots=True)
class Member:
    """One recipient's place in a call."""

    notification: Notification
    recipient: Recipient

    @property
    def event(self) -> Event:
        """Return what goes on the wire."""
        row = self.notification
        return Event(row.workflow_key, self.recipient.id, self.recipient.transaction_id, row.payload, row.overrides)

    @property
    def unsure(self) -> bool:
        """Whether an earlier call may have had its effect."""
        return self.recipient.state is not State.PLANNED and self.recipient.call_key is not None

    @property
    def size(self) -> int:
        """Return about how many bytes the event takes."""
        return len(self.notification.payload) + len(self.notification.overrides or "") + 300


@dataclass(frozen=True)
class Call:
    """One request: a single trigger, or a bulk of single-recipient triggers."""

    members: tuple[Member, ...]

    @cached_property
    def key(self) -> str:
        """Return the Idempotency-Key, made from the members alone as they were when the call was planned."""
        if len(self.members) == 1:
            recipient = self.members[0].recipient
            return single_key(recipient.transaction_id, recipient.epoch)
        return bulk_key((member.recipient.transaction_id, member.recipient.epoch) for member in self.members)


def plan(notifications: Iterable[Notification]) -> list[Call]:
    """Return the calls for every recipient that is not settled: repetitions first, each as it was."""
    unsettled = list(callable_now(notifications))
    fresh = [member for member in unsettled if not member.unsure]
    return [*regrouped(member for member in unsettled if member.unsure), *(Call(tuple(group)) for group in cut(fresh))]


def unsure_calls(notifications: Iterable[Notification]) -> list[Call]:
    """Return the calls whose outcome is unknown, as a repetition would make them now."""
    return regrouped(member for member in callable_now(notifications) if member.unsure)


def callable_now(notifications: Iterable[Notification]) -> Iterator[Member]:
    """Yield every recipient that is not settled and has not to wait."""
    for notification in notifications:
        for recipient in notification.recipients:
            if not recipient.settled and not recipient.retry_after:
                yield Member(notification, recipient)


def regrouped(members: Iterable[Member]) -> list[Call]:
    """Return calls as they were."""
    groups: dict[str | None, list[Member]] = {}
    for member in members:
        groups.setdefault(member.recipient.call_key, []).append(member)
    for group in groups.values():
        group.sort(key=lambda member: member.recipient.call_ordinal or 0)
    return [Call(tuple(group)) for group in groups.values()]


def cut(members: list[Member]) -> Iterator[list[Member]]:
    """Yield groups that fit into one request each."""
    if len(members) <= SINGLE_CALLS:
        yield from ([member] for member in members)
        return
    group: list[Member] = []
    size = 0
    for member in members:
        if group and (len(group) == BULK_EVENTS or size + member.size > BULK_BYTES):
            yield group
            group, size = [], 0
        group.append(member)
        size += member.size
    yield group
