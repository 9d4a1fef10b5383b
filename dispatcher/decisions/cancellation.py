"""The meaning of Novu's answers to a cancel, and the next try. Pure: no I/O, no clock.

A cancel is two requests: one stops the steps of a run that wait in a delay, one deletes the messages already shown.
Novu does not remember a cancel that arrives before its run exists, so "nothing there" is final only some time after the
call. A 404 is no error here: there is nothing to cancel.
"""

from collections.abc import Mapping
from datetime import timedelta

from dispatcher.decisions.backoff import CANCEL_BACKOFF
from dispatcher.decisions.classification import classify_failure, parse_json
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import PendingCancel, RecipientState

STOPPED = "stopped"
REMOVED = "removed"
NOTHING_THERE = "nothing_there"
GIVEN_UP = "cancel_given_up"
MIN_CALL_AGE = timedelta(seconds=60)
"""Before this time since the call, "nothing there" is not final: a call of ours may be in flight for 40 s, and its run
usually appears within 15 s."""
BREAKER_WAIT = timedelta(seconds=5)
"""Time until the next try while the circuit breaker refuses calls."""


def classify_cancel(status: int, headers: Mapping[str, str], body: bytes) -> CallResult:
    """Return the meaning of the answer to one of the two DELETE requests; ACCEPTED: Novu did it or had nothing to do.

    `headers` has lower-case names.
    """
    if status == 404:
        return CallResult(AnswerClass.ACCEPTED, NOTHING_THERE)
    if status == 204:
        return CallResult(AnswerClass.ACCEPTED, REMOVED)
    parsed = parse_json(body)
    if status != 200:
        return classify_failure(status, headers, parsed, body, replayed=False)
    done = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(done, bool):
        return CallResult(AnswerClass.UNKNOWN, "unreadable_answer", "Novu's answer to a cancel could not be read")
    return CallResult(AnswerClass.ACCEPTED, STOPPED if done else NOTHING_THERE)


def apply_cancel_result(cancel: PendingCancel, outcome: CallResult, horizon: timedelta) -> None:
    """Change a cancel by the result of its try. No try is planned once the waits between tries add up to `horizon`."""
    cancel.outcome, cancel.error, cancel.retry_in = outcome.code, outcome.detail or None, None
    too_early = outcome.code == NOTHING_THERE and cancel.call_age < MIN_CALL_AGE
    if outcome.answer_class is AnswerClass.ACCOUNT_ERROR:  # the circuit breaker refuses calls, so this was no try
        cancel.retry_in = BREAKER_WAIT
    elif outcome.answer_class is AnswerClass.ACCEPTED and not too_early:
        cancel.state = RecipientState.CANCELLED
    elif CANCEL_BACKOFF.total_wait(cancel.attempts) < horizon:
        cancel.attempts += 1
        cancel.retry_in = max(CANCEL_BACKOFF.delay(cancel.attempts), timedelta(seconds=outcome.retry_after or 0))
    else:
        cancel.outcome = GIVEN_UP
