"""The next step for a call whose outcome is unknown. Pure: no I/O, no clock.

While Novu remembers the call's key, we repeat the call unchanged: Novu accepts it at most once. Otherwise we ask Novu,
after the run had time to become visible, whether a run exists. A run means accepted; no run means that the recipient is
sent again. While Novu may still be working on the last call we do neither, so that two calls are never in flight.
"""

from collections.abc import Iterable
from enum import StrEnum

from dispatcher.decisions.call_planning import Call, Member, unknown_calls
from dispatcher.decisions.classification import apply_result
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, Recipient, RecipientState

NOVU_VISIBILITY_SECONDS = 15.0
"""Longer than a run usually takes to become visible at Novu. Before that, a missing run proves nothing."""
CALL_TIMEOUT_SECONDS = 40.0
"""We wait this long for an answer, because Novu may need 30 s. Novu may work on an unanswered call as long."""
KEY_TTL_SECONDS = 22 * 3600.0
"""Novu forgets a key after 24 h, plus or minus 5 %; we rely on it for less than that."""
LOOKUP_AGAIN_SECONDS = 30.0
"""Time until the next look-up while a missing run proves nothing: Novu's queue may lag."""
LOOKUP_RETRY_SECONDS = 5.0
"""At least this long until the next look-up after one that found no answer."""


class NextStep(StrEnum):
    """The next step for a call whose outcome is unknown."""

    REPEAT = "repeat"
    LOOK_UP = "look up"
    WAIT = "wait"


def calls_needing_lookup(rows: Iterable[Notification], *, idempotency_on: bool) -> list[Call]:
    """Return the calls with an unknown outcome that cannot be repeated now.

    `idempotency_on`: whether Novu honours idempotency keys.
    """
    return [
        call for call in unknown_calls(rows) if next_step(call, idempotency_on=idempotency_on) is not NextStep.REPEAT
    ]


def next_step(call: Call, *, idempotency_on: bool) -> NextStep:
    """Return the next step for a call with an unknown outcome; `call` is its repetition as planned now."""
    if seconds_until_safe(call, idempotency_on=idempotency_on) > 0:
        return NextStep.WAIT
    return NextStep.REPEAT if can_repeat(call, idempotency_on=idempotency_on) else NextStep.LOOK_UP


def can_repeat(call: Call, *, idempotency_on: bool) -> bool:
    """Whether Novu would recognise the repetition as the same call."""
    return idempotency_on and all(
        call.key == member.recipient.call_key and not key_unusable(member) for member in call.members
    )


def seconds_until_safe(call: Call, *, idempotency_on: bool) -> float:
    """Return the seconds to wait until Novu cannot be working on the last call; 0 if it cannot be now.

    If the call has to be looked up, 15 s are added for its run to become visible.
    """
    visibility = 0.0 if can_repeat(call, idempotency_on=idempotency_on) else NOVU_VISIBILITY_SECONDS
    recipients = [member.recipient for member in call.members]
    return max(
        0.0, *(visibility + CALL_TIMEOUT_SECONDS * may_be_in_flight(each) - each.call_age for each in recipients)
    )


def may_be_in_flight(recipient: Recipient) -> bool:
    """Whether Novu may still be working on the last call: the call got no answer, or none was recorded."""
    return recipient.state is RecipientState.SENDING or recipient.outcome == "timeout"


def key_unusable(member: Member) -> bool:
    """Whether the last call's key cannot be used again for this recipient: too old, or used with another body."""
    recipient = member.recipient
    return (
        recipient.first_call_age >= KEY_TTL_SECONDS
        or recipient.outcome == "key_reused"
        or recipient.call_hash != member.notification.body_hash
    )


def apply_lookup(member: Member, answer: CallResult, patience: float = 0.0) -> None:
    """Change a recipient by the result of looking up its run.

    RETRY (no run exists) makes it PLANNED again, with a new epoch if the old key cannot be used again; or withdrawn, if
    its owner removed it. Less than `patience` seconds after the call it only waits for the next look-up, without
    counting a try.
    """
    recipient = member.recipient
    if answer.answer_class is AnswerClass.RETRY and recipient.call_age < patience:
        recipient.retry_after = min(LOOKUP_AGAIN_SECONDS, patience - recipient.call_age)
        recipient.throttled = True
        return
    if answer.answer_class is AnswerClass.RETRY and recipient.removed:
        recipient.withdraw()
        return
    if answer.answer_class is AnswerClass.RETRY:
        recipient.state = RecipientState.PLANNED
        recipient.epoch += key_unusable(member)
        return
    apply_result(recipient, answer)
    if not recipient.is_final:  # no call was made, so this was no try
        recipient.retry_after, recipient.throttled = max(recipient.retry_after, LOOKUP_RETRY_SECONDS), True
