"""Splits a call that Novu refused as a whole into smaller calls. Pure: no I/O, no clock.

Such a refusal tells nothing about a single event: the fault may be another member's, or the size of all together. Novu
took none of the events, so its members are sent again in smaller calls. They are other calls with other keys. A call of
one event is not split: then the refusal is this event's own.
"""

from collections.abc import Sequence

from dispatcher.decisions.call_planning import MAX_BULK_EVENTS, Call, Member
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import RecipientState


def is_refused_together(results: Sequence[CallResult]) -> bool:
    """Whether a call's answer was a refusal of the call, not of its single events."""
    return bool(results) and results[0].answer_class is AnswerClass.REFUSED_TOGETHER


def split_call(call: Call, culprits: Sequence[int], max_cost: int | None) -> list[Call]:
    """Return the calls to make instead of `call`, each with fewer members.

    `culprits`: positions of members that the answer blames; each gets a call of its own. Otherwise the call is halved.
    `max_cost`: as in `plan_calls`; under a rate limit a bulk call of fewer events costs more tokens than single calls.
    A member whose earlier call may have been accepted is left out, because it is looked up first.
    """
    blamed = {position for position in culprits if position < len(call.members)}
    named = [member for position, member in enumerate(call.members) if position in blamed and is_free(member)]
    others = [member for position, member in enumerate(call.members) if position not in blamed and is_free(member)]
    if max_cost is not None:
        return [Call((member,)) for member in (*named, *others)]
    parts = [others] if blamed else halves(others)
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


def halves(members: list[Member]) -> tuple[list[Member], list[Member]]:
    """Return the members in two parts, by enterprise: at most one enterprise is in both.

    The cut is between two enterprises wherever both parts then need as few further cuts as two halves do. So a bad
    event among n costs at most 2 x log2(n) calls, rounded up: 14 for 100. However many are bad, it is less than 2 n.
    """
    ordered = sorted(members, key=lambda member: member.notification.enterprise)
    count, middle = len(ordered), len(ordered) // 2
    largest = 2 ** max((count - 1).bit_length() - 1, 0)
    cuts = [
        place
        for place in range(max(count - largest, 1), min(largest, count - 1) + 1)
        if ordered[place - 1].notification.enterprise != ordered[place].notification.enterprise
    ]
    cut = min(cuts, key=lambda place: abs(place - middle), default=middle)
    return ordered[:cut], ordered[cut:]
