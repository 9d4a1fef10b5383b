"""What to do about a call that may have had its effect. Pure: no I/O, no clock.

Repeating it as it was is safe while Novu remembers its key. Where that cannot be, Novu is asked whether a run came of
it, once the run had time to appear: a run means accepted, none means that it may be sent again.
"""

from collections.abc import Iterable
from enum import StrEnum

from dispatcher.models import Notification, Outcome, State, Verdict
from dispatcher.outcomes import apply
from dispatcher.planning import Call, Member, unsure_calls

SETTLE_SECONDS = 15.0
"""Longer than Novu's queue usually lags: before that, no run proves nothing."""
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
    if honoured and all(call.key == member.recipient.call_key and not key_spent(member) for member in call.members):
        return Step.REPEAT
    return Step.LOOK_UP if settle_wait(call) == 0 else Step.WAIT


def settle_wait(call: Call) -> float:
    """Return the seconds until a missing run means something."""
    return max(0.0, SETTLE_SECONDS - min(member.recipient.call_age for member in call.members))


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
