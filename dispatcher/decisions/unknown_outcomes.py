"""What to do about a call that may have had its effect. Pure: no I/O, no clock.

Repeating it as it was is safe while Novu remembers its key. Where that cannot be, Novu is asked whether a run came of
it, once the run had time to appear: a run means accepted, none means that it may be sent again. Nothing is repeated
while the last call may still be worked on: never are two in flight.
"""

from collections.abc import Iterable
from enum import StrEnum

from dispatcher.decisions.call_planning import Call, Member, unknown_calls
from dispatcher.decisions.classification import apply_result
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, Recipient, RecipientState

NOVU_VISIBILITY_SECONDS = 15.0
"""Longer than Novu's queue usually lags: before that, no run proves nothing."""
CALL_TIMEOUT_SECONDS = 40.0
"""Novu may take 30 s for an answer; so long we wait for one, and so long an unanswered call may be worked on."""
KEY_TTL_SECONDS = 22 * 3600.0
"""Novu forgets a key after 24 h, give or take 5 %."""
LOOKUP_RETRY_SECONDS = 5.0


class NextStep(StrEnum):
    """What comes next for a call whose outcome is unknown."""

    REPEAT = "repeat"
    LOOK_UP = "look up"
    WAIT = "wait"


def calls_needing_lookup(rows: Iterable[Notification], *, idempotency_on: bool) -> list[Call]:
    """Return the calls with an unknown outcome that cannot simply be repeated; `honoured`: Novu minds our keys."""
    return [
        call for call in unknown_calls(rows) if next_step(call, idempotency_on=idempotency_on) is not NextStep.REPEAT
    ]


def next_step(call: Call, *, idempotency_on: bool) -> NextStep:
    """Return what to do about a call of which `call` is what a repetition would be now."""
    if seconds_until_safe(call, idempotency_on=idempotency_on) > 0:
        return NextStep.WAIT
    return NextStep.REPEAT if can_repeat(call, idempotency_on=idempotency_on) else NextStep.LOOK_UP


def can_repeat(call: Call, *, idempotency_on: bool) -> bool:
    """Whether Novu would take the repetition for the same call."""
    return idempotency_on and all(
        call.key == member.recipient.call_key and not key_unusable(member) for member in call.members
    )


def seconds_until_safe(call: Call, *, idempotency_on: bool) -> float:
    """Return the seconds until the last call is surely over, and until a missing run means something where we look."""
    settling = 0.0 if can_repeat(call, idempotency_on=idempotency_on) else NOVU_VISIBILITY_SECONDS
    people = [member.recipient for member in call.members]
    return max(
        0.0, *(settling + CALL_TIMEOUT_SECONDS * may_be_in_flight(person) - person.call_age for person in people)
    )


def may_be_in_flight(recipient: Recipient) -> bool:
    """Whether Novu may still be at work on the last call."""
    return recipient.state is RecipientState.SENDING or recipient.outcome == "timeout"


def key_unusable(member: Member) -> bool:
    """Whether the key of the last call can no longer carry this recipient: too old, or used for other bytes."""
    recipient = member.recipient
    return (
        recipient.first_call_age >= KEY_TTL_SECONDS
        or recipient.outcome == "key_reused"
        or recipient.call_hash != member.notification.body_hash
    )


def apply_lookup(member: Member, answer: CallResult) -> None:
    """Change a recipient by what the look-up of its run told us."""
    recipient = member.recipient
    if answer.answer_class is AnswerClass.RETRY:  # surely without effect
        recipient.state = RecipientState.PLANNED
        recipient.epoch += key_unusable(member)
        return
    apply_result(recipient, answer)
    if not recipient.is_final:
        recipient.retry_after = max(recipient.retry_after, LOOKUP_RETRY_SECONDS)
