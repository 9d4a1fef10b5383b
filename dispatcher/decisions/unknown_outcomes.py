"""What to do about a call that may have had its effect. Pure: no I/O, no clock.

Repeating it as it was is safe while Novu remembers its key. Where that cannot be, Novu is asked whether a run came of
it, once the run had time to appear: a run means accepted, none means that it may be sent again. Nothing is repeated
while the last call may still be worked on: never are two in flight.
"""

from collections.abc import Iterable
from enum import StrEnum

from dispatcher.decisions.call_planning import Call, Member, unsure_calls
from dispatcher.decisions.classification import apply
from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import Notification, Recipient, State

SETTLE_SECONDS = 15.0
"""Longer than Novu's queue usually lags: before that, no run proves nothing."""
CALL_SECONDS = 40.0
"""Novu may take 30 s for an answer; so long we wait for one, and so long an unanswered call may be worked on."""
KEY_SECONDS = 22 * 3600.0
"""Novu forgets a key after 24 h, give or take 5 %."""
ASK_AGAIN_SECONDS = 5.0


class Step(StrEnum):
    """What comes next for a call whose outcome is unknown."""

    REPEAT = "repeat"
    LOOK_UP = "look up"
    WAIT = "wait"


def doubtful(rows: Iterable[Notification], *, honoured: bool) -> list[Call]:
    """Return the calls with an unknown outcome that cannot simply be repeated; `honoured`: Novu minds our keys."""
    return [call for call in unsure_calls(rows) if next_step(call, honoured=honoured) is not Step.REPEAT]


def next_step(call: Call, *, honoured: bool) -> Step:
    """Return what to do about a call of which `call` is what a repetition would be now."""
    if wait(call, honoured=honoured) > 0:
        return Step.WAIT
    return Step.REPEAT if repeatable(call, honoured=honoured) else Step.LOOK_UP


def repeatable(call: Call, *, honoured: bool) -> bool:
    """Whether Novu would take the repetition for the same call."""
    return honoured and all(call.key == member.recipient.call_key and not key_spent(member) for member in call.members)


def wait(call: Call, *, honoured: bool) -> float:
    """Return the seconds until the last call is surely over, and until a missing run means something where we look."""
    settling = 0.0 if repeatable(call, honoured=honoured) else SETTLE_SECONDS
    people = [member.recipient for member in call.members]
    return max(0.0, *(settling + CALL_SECONDS * unanswered(person) - person.call_age for person in people))


def unanswered(recipient: Recipient) -> bool:
    """Whether Novu may still be at work on the last call."""
    return recipient.state is State.SENDING or recipient.outcome == "timeout"


def key_spent(member: Member) -> bool:
    """Whether the key of the last call can no longer carry this recipient: too old, or used for other bytes."""
    recipient = member.recipient
    return (
        recipient.first_call_age >= KEY_SECONDS
        or recipient.outcome == "key_reused"
        or recipient.call_hash != member.notification.body_hash
    )


def resolve(member: Member, answer: Outcome) -> None:
    """Change a recipient by what the look-up of its run told us."""
    recipient = member.recipient
    if answer.verdict is Verdict.RETRY:  # surely without effect
        recipient.state = State.PLANNED
        recipient.epoch += key_spent(member)
        return
    apply(recipient, answer)
    if not recipient.settled:
        recipient.retry_after = max(recipient.retry_after, ASK_AGAIN_SECONDS)
