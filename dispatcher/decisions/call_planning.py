"""Which calls to make: groups a run's recipients into requests Novu accepts. Pure.

A call whose outcome is unknown is repeated as it was: same members, same order, and so the same key and bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from dispatcher.decisions.identity import bulk_key, single_key
from dispatcher.models.call_result import Event
from dispatcher.models.notification import Notification, Recipient, State

PARALLEL_CALLS = 10
"""So many leave together, written down in one statement."""
SINGLE_CALLS = 10
"""Up to so many recipients each get a call of their own."""
BULK_EVENTS = 100
BULK_BYTES = 5_000_000
"""Novu takes 100 events and about 20 MB a call."""
BULK_TOKENS = 100
"""What a bulk call costs where Novu limits us, however few events it has; a single one costs 1."""


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
        row = self.notification
        return len(row.payload.encode()) + len((row.overrides or "").encode()) + 300


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

    @property
    def tokens(self) -> int:
        """Return what the call costs where Novu limits us."""
        return BULK_TOKENS if len(self.members) > 1 else 1


def plan(notifications: Iterable[Notification], most_tokens: int | None = None) -> list[Call]:
    """Return the calls for every recipient that is not settled: repetitions first, each as it was.

    `most_tokens` is what Novu's limit allows at once, None where there is none: a bulk call has to be worth its tokens.
    """
    unsettled = list(callable_now(notifications))
    fresh = [member for member in unsettled if not member.unsure]
    groups = cut(fresh, singles(most_tokens))
    return [*regrouped(member for member in unsettled if member.unsure), *(Call(tuple(group)) for group in groups)]


def singles(most_tokens: int | None) -> int:
    """Return how many recipients at most get a call each instead of sharing one."""
    if most_tokens is None:
        return SINGLE_CALLS
    return BULK_TOKENS - 1 if most_tokens >= BULK_TOKENS else sys.maxsize


def chunks(calls: Iterable[Call], most_tokens: int | None) -> Iterator[list[Call]]:
    """Yield calls that go out together: not too many, and no more than Novu's limit allows at once."""
    chunk: list[Call] = []
    for call in calls:
        too_dear = most_tokens is not None and sum(each.tokens for each in (*chunk, call)) > most_tokens
        if chunk and (len(chunk) == PARALLEL_CALLS or too_dear):
            yield chunk
            chunk = []
        chunk.append(call)
    if chunk:
        yield chunk


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


def cut(members: list[Member], most_singles: int) -> Iterator[list[Member]]:
    """Yield groups that fit into one request each; what is too few to share one is sent one by one."""
    for group in full(members):
        if len(group) <= most_singles:
            yield from ([member] for member in group)
        else:
            yield group


def full(members: list[Member]) -> Iterator[list[Member]]:
    """Yield groups as large as a bulk call takes them."""
    group: list[Member] = []
    size = 0
    for member in members:
        if group and (len(group) == BULK_EVENTS or size + member.size > BULK_BYTES):
            yield group
            group, size = [], 0
        group.append(member)
        size += member.size
    if group:
        yield group
