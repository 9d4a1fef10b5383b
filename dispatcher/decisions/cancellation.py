"""What Novu's answers to taking a trigger back mean, and what comes next. Pure: no I/O, no clock.

Novu stops only what waits in a delay, and forgets a stop that came before the run: "nothing there" is conclusive only
some time after the call. A 404 is no error here: there is nothing to take back.
"""

from collections.abc import Mapping
from datetime import timedelta

from dispatcher.decisions.backoff import CANCELS
from dispatcher.decisions.classification import failure, parse
from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import Cancel, State

STOPPED = "stopped"
REMOVED = "removed"
NOTHING = "nothing_there"
GIVEN_UP = "cancel_given_up"
YOUNG = timedelta(seconds=60)
"""Longer than a call of ours lives (40 s) and Novu's queue usually lags (15 s)."""
GATE_WAIT = timedelta(seconds=5)


def answered(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what the answer to either DELETE says; ACCEPTED: Novu did it, or had nothing to do."""
    if status == 404:
        return Outcome(Verdict.ACCEPTED, NOTHING)
    if status == 204:
        return Outcome(Verdict.ACCEPTED, REMOVED)
    parsed = parse(body)
    if status != 200:
        return failure(status, headers, parsed, body, replayed=False)
    done = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(done, bool):
        return Outcome(Verdict.AMBIGUOUS, "unreadable_answer", "Novu's answer to a cancel could not be read")
    return Outcome(Verdict.ACCEPTED, STOPPED if done else NOTHING)


def judge(cancel: Cancel, outcome: Outcome, horizon: timedelta) -> None:
    """Change a cancel by what its try taught us; `horizon` is how long to go on."""
    cancel.outcome, cancel.error, cancel.wait = outcome.code, outcome.detail or None, None
    too_early = outcome.code == NOTHING and cancel.call_age < YOUNG
    if outcome.verdict is Verdict.SYSTEMIC:  # not a try: the gate is shut
        cancel.wait = GATE_WAIT
    elif outcome.verdict is Verdict.ACCEPTED and not too_early:
        cancel.state = State.CANCELLED
    elif CANCELS.spent(cancel.attempts) < horizon:
        cancel.attempts += 1
        cancel.wait = max(CANCELS.delay(cancel.attempts), timedelta(seconds=outcome.retry_after or 0))
    else:
        cancel.outcome = GIVEN_UP
