"""Which calls to make: groups a run's recipients into requests Novu accepts. Pure.

A call whose outcome is unknown is repeated as it was: same members, same order, and so the same key and bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from dispatcher.decisions.identity import bulk_call_key, single_call_key
from dispatcher.models.call_result import TriggerEvent
from dispatcher.models.notification import Notification, Recipient, RecipientState

MAX_PARALLEL_CALLS = 10
"""So many leave together, written down in one statement."""
MAX_SINGLE_CALLS = 10
"""Up to so many recipients each get a call of their own."""
MAX_BULK_EVENTS = 100
MAX_BULK_BYTES = 5_000_000
"""Novu takes 100 events and about 20 MB a call."""
BULK_COST = 100
"""What a bulk call costs where Novu limits us, however few events it has; a single one costs 1."""


@dataclass(frozen=True, slots=True)
class Member:
    """One recipient's place in a call."""

    notification: Notification
    recipient: Recipient

    @property
    def event(self) -> TriggerEvent:
        """Return what goes on the wire."""
        row = self.notification
        return TriggerEvent(
            row.workflow_key, self.recipient.id, self.recipient.transaction_id, row.payload, row.overrides
        )

    @property
    def is_unknown(self) -> bool:
        """Whether an earlier call may have had its effect."""
        return self.recipient.state is not RecipientState.PLANNED and self.recipient.call_key is not None

    @property
    def size_bytes(self) -> int:
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
            return single_call_key(recipient.transaction_id, recipient.epoch)
        return bulk_call_key((member.recipient.transaction_id, member.recipient.epoch) for member in self.members)

    @property
    def cost(self) -> int:
        """Return what the call costs where Novu limits us."""
        return BULK_COST if len(self.members) > 1 else 1


def plan_calls(notifications: Iterable[Notification], max_cost: int | None = None) -> list[Call]:
    """Return the calls for every recipient that is not settled: repetitions first, each as it was.

    `most_tokens` is what Novu's limit allows at once, None where there is none: a bulk call has to be worth its tokens.
    """
    unsettled = list(sendable(notifications))
    fresh = [member for member in unsettled if not member.is_unknown]
    groups = split(fresh, max_single_calls(max_cost))
    return [
        *repeat_as_before(member for member in unsettled if member.is_unknown),
        *(Call(tuple(group)) for group in groups),
    ]


def max_single_calls(max_cost: int | None) -> int:
    """Return how many recipients at most get a call each instead of sharing one."""
    if max_cost is None:
        return MAX_SINGLE_CALLS
    return BULK_COST - 1 if max_cost >= BULK_COST else sys.maxsize


def parallel_groups(calls: Iterable[Call], max_cost: int | None) -> Iterator[list[Call]]:
    """Yield calls that go out together: not too many, and no more than Novu's limit allows at once."""
    chunk: list[Call] = []
    for call in calls:
        too_dear = max_cost is not None and sum(each.cost for each in (*chunk, call)) > max_cost
        if chunk and (len(chunk) == MAX_PARALLEL_CALLS or too_dear):
            yield chunk
            chunk = []
        chunk.append(call)
    if chunk:
        yield chunk


def unknown_calls(notifications: Iterable[Notification]) -> list[Call]:
    """Return the calls whose outcome is unknown, as a repetition would make them now."""
    return repeat_as_before(member for member in sendable(notifications) if member.is_unknown)


def sendable(notifications: Iterable[Notification]) -> Iterator[Member]:
    """Yield every recipient that is not settled and has not to wait."""
    for notification in notifications:
        for recipient in notification.recipients:
            if not recipient.is_final and not recipient.retry_after:
                yield Member(notification, recipient)


def repeat_as_before(members: Iterable[Member]) -> list[Call]:
    """Return calls as they were."""
    groups: dict[str | None, list[Member]] = {}
    for member in members:
        groups.setdefault(member.recipient.call_key, []).append(member)
    for group in groups.values():
        group.sort(key=lambda member: member.recipient.call_ordinal or 0)
    return [Call(tuple(group)) for group in groups.values()]


def split(members: list[Member], max_singles: int) -> Iterator[list[Member]]:
    """Yield groups that fit into one request each; what is too few to share one is sent one by one."""
    for group in fill_batches(members):
        if len(group) <= max_singles:
            yield from ([member] for member in group)
        else:
            yield group


def fill_batches(members: list[Member]) -> Iterator[list[Member]]:
    """Yield groups as large as a bulk call takes them."""
    group: list[Member] = []
    size = 0
    for member in members:
        if group and (len(group) == MAX_BULK_EVENTS or size + member.size_bytes > MAX_BULK_BYTES):
            yield group
            group, size = [], 0
        group.append(member)
        size += member.size_bytes
    if group:
        yield group
