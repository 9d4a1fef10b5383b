"""Plans a run's calls: groups its recipients into requests that Novu accepts. Pure: no I/O, no clock.

A call whose outcome is unknown is repeated unchanged: the same members in the same order give the same key and bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from dispatcher.decisions.identity import bulk_call_key, single_call_key
from dispatcher.models.call_result import TriggerEvent
from dispatcher.models.notification import Notification, Recipient, RecipientState

MAX_PARALLEL_CALLS = 10
"""At most this many calls are in flight at once for a run. One statement records them all before they are made."""
MAX_SINGLE_CALLS = 10
"""A group of at most this many recipients is sent as single calls; a larger one as a bulk call."""
MAX_BULK_EVENTS = 100
MAX_BULK_BYTES = 5_000_000
"""Limits of one bulk call, in events and bytes. Novu accepts 100 events and about 20 MB."""
MAX_PARALLEL_BYTES = MAX_PARALLEL_CALLS * MAX_BULK_BYTES
"""The calls that are in flight at once for a run carry at most this many bytes together, or one call does."""
BULK_COST = 100
"""Tokens of Novu's rate limit that a bulk call costs, however few events it has. A single call costs 1."""


@dataclass(frozen=True, slots=True)
class Member:
    """One recipient in a call, with its notification."""

    notification: Notification
    recipient: Recipient

    @property
    def event(self) -> TriggerEvent:
        """The trigger that the call carries for this recipient."""
        row = self.notification
        return TriggerEvent(
            row.workflow_key, self.recipient.id, self.recipient.transaction_id, row.payload, row.overrides
        )

    @property
    def is_unknown(self) -> bool:
        """Whether Novu may have accepted an earlier call for this recipient."""
        return self.recipient.state is not RecipientState.PLANNED and self.recipient.call_key is not None

    @property
    def size_bytes(self) -> int:
        """The approximate size of the event in a request, in bytes."""
        row = self.notification
        return len(row.payload.encode()) + len((row.overrides or "").encode()) + 300


@dataclass(frozen=True)
class Call:
    """One request: a single trigger, or a bulk of single-recipient triggers."""

    members: tuple[Member, ...]

    @cached_property
    def key(self) -> str:
        """The Idempotency-Key. It is computed once, because members' epochs may grow while the call is made."""
        if len(self.members) == 1:
            recipient = self.members[0].recipient
            return single_call_key(recipient.transaction_id, recipient.epoch)
        return bulk_call_key((member.recipient.transaction_id, member.recipient.epoch) for member in self.members)

    @cached_property
    def max_bytes(self) -> int:
        """The most bytes that its body can have, approximately."""
        return self.members[0].size_bytes if len(self.members) == 1 else MAX_BULK_BYTES

    @property
    def cost(self) -> int:
        """The tokens of Novu's rate limit that the call costs."""
        return BULK_COST if len(self.members) > 1 else 1


def plan_calls(notifications: Iterable[Notification], max_cost: int | None = None) -> list[Call]:
    """Return the calls for every sendable recipient: first the repetitions, unchanged, then the new calls.

    `max_cost`: the tokens that Novu's rate limit allows at once; None: no limit is known. A bulk call is planned only
    for a group that justifies its cost.
    """
    members = list(sendable(notifications))
    not_called = [member for member in members if not member.is_unknown]
    groups = split(not_called, max_single_calls(max_cost))
    return [
        *repeat_as_before(member for member in members if member.is_unknown),
        *(Call(tuple(group)) for group in groups),
    ]


def max_single_calls(max_cost: int | None) -> int:
    """Return the size up to which a group is sent as single calls.

    Under a rate limit that is the size at which a bulk call becomes cheaper. If the limit allows no bulk call at all,
    every group is sent as single calls.
    """
    if max_cost is None:
        return MAX_SINGLE_CALLS
    return BULK_COST - 1 if max_cost >= BULK_COST else sys.maxsize


def parallel_groups(calls: Iterable[Call], max_cost: int | None) -> Iterator[list[Call]]:
    """Yield groups of calls to make at once: at most `MAX_PARALLEL_CALLS`, which cost at most `max_cost` together and
    carry at most `MAX_PARALLEL_BYTES`.

    A call that alone is above a limit forms a group of its own.
    """
    group: list[Call] = []
    size = 0
    for call in calls:
        too_expensive = max_cost is not None and sum(each.cost for each in (*group, call)) > max_cost
        too_large = size + call.max_bytes > MAX_PARALLEL_BYTES
        if group and (len(group) == MAX_PARALLEL_CALLS or too_expensive or too_large):
            yield group
            group, size = [], 0
        group.append(call)
        size += call.max_bytes
    if group:
        yield group


def unknown_calls(notifications: Iterable[Notification]) -> list[Call]:
    """Return the repetitions, as planned now, of the calls whose outcome is unknown."""
    return repeat_as_before(member for member in sendable(notifications) if member.is_unknown)


def sendable(notifications: Iterable[Notification]) -> Iterator[Member]:
    """Yield every recipient that is not final and does not have to wait."""
    for notification in notifications:
        for recipient in notification.recipients:
            if not recipient.is_final and not recipient.retry_after:
                yield Member(notification, recipient)


def repeat_as_before(members: Iterable[Member]) -> list[Call]:
    """Return one call for each last call of `members`: the same members in the same order, so that the key fits."""
    groups: dict[str | None, list[Member]] = {}
    for member in members:
        groups.setdefault(member.recipient.call_key, []).append(member)
    for group in groups.values():
        group.sort(key=lambda member: member.recipient.call_ordinal or 0)
    return [Call(tuple(group)) for group in groups.values()]


def split(members: list[Member], max_singles: int) -> Iterator[list[Member]]:
    """Yield the members of each request: a bulk group, or one member if its group has at most `max_singles`."""
    for group in fill_batches(members):
        if len(group) <= max_singles:
            yield from ([member] for member in group)
        else:
            yield group


def fill_batches(members: list[Member]) -> Iterator[list[Member]]:
    """Yield groups that each fill one bulk call up to its limits in events and bytes."""
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
