"""Splits a call that Novu refused as a whole into smaller calls. Pure: no I/O, no clock.

Such a refusal tells nothing about a single event: the fault may be another member's, or the size of all together. Novu
took none of the events, so its members are sent again in smaller calls. They are other calls with other keys. A call of
one event is not split: then the refusal is this event's own.
"""

import math
from collections.abc import Sequence

from dispatcher.decisions.call_planning import MAX_BULK_EVENTS, MAX_PARALLEL_CALLS, Call, Member
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import RecipientState


def is_refused_together(results: Sequence[CallResult]) -> bool:
    """Whether a call's answer was a refusal of the call, not of its single events."""
    return bool(results) and results[0].answer_class is AnswerClass.REFUSED_TOGETHER


def split_call(call: Call, culprits: Sequence[int], max_cost: int | None) -> list[Call]:
    """Return the calls to make instead of `call`, each with fewer members.

    `culprits`: positions of members that the answer blames; each gets a call of its own. Otherwise the call is split by
    enterprise, and a call of one enterprise is halved.
    `max_cost`: as in `plan_calls`; under a rate limit a bulk call of fewer events costs more tokens than single calls.
    A member whose earlier call may have been accepted is left out, because it is looked up first.
    """
    blamed = {position for position in culprits if position < len(call.members)}
    named = [member for position, member in enumerate(call.members) if position in blamed and is_free(member)]
    others = [member for position, member in enumerate(call.members) if position not in blamed and is_free(member)]
    if max_cost is not None:
        return [Call((member,)) for member in (*named, *others)]
    parts = [others] if blamed else smaller_parts(others)
    return [*(Call((member,)) for member in named), *(Call(tuple(part)) for part in parts if part)]


def count_refused_alone(parts: Sequence[Call]) -> None:
    """Count in each row the recipients whose own call, one of these parts, was made and not accepted."""
    for part in parts:
        if len(part.members) == 1 and part.members[0].recipient.state is not RecipientState.ACCEPTED:
            part.members[0].notification.refused_alone += 1


def is_hopeless(call: Call) -> bool:
    """Whether this part waits for the next try: all its members belong to rows that are refused as such.

    That is a row of which 100 recipients were refused alone and none was accepted. Otherwise a row of 50,000 recipients
    whose payload is refused would cost 99,000 calls at each try.
    """
    if call.members[0].notification.refused_alone < MAX_BULK_EVENTS:
        return False
    rows = {member.notification.id: member.notification for member in call.members}
    return all(
        row.refused_alone >= MAX_BULK_EVENTS
        and all(recipient.state is not RecipientState.ACCEPTED for recipient in row.recipients)
        for row in rows.values()
    )


def is_free(member: Member) -> bool:
    """Whether no call for this member can have had an effect."""
    return member.recipient.state is RecipientState.PLANNED


def smaller_parts(members: list[Member]) -> list[list[Member]]:
    """Return the members in parts, each with whole enterprises; members of one enterprise in two halves.

    At most ten enterprises get a part each. More get about as many parts as a part has enterprises, so that those are
    separate after the next refusal: an event of another enterprise waits for at most two further calls. A bad event
    among n of its enterprise costs at most 2 x log2(n) calls more, rounded up: 14 for 100.
    """
    ordered = sorted(members, key=lambda member: member.notification.enterprise)
    enterprises = list(dict.fromkeys(member.notification.enterprise for member in ordered))
    if len(enterprises) < 2:
        return [ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]]
    size = 1 if len(enterprises) <= MAX_PARALLEL_CALLS else math.isqrt(len(enterprises))
    parts: dict[int, list[Member]] = {}
    part_of = {enterprise: place // size for place, enterprise in enumerate(enterprises)}
    for member in ordered:
        parts.setdefault(part_of[member.notification.enterprise], []).append(member)
    return list(parts.values())
