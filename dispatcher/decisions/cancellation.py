"""The meaning of Novu's answers to a cancel, and the next try. Pure: no I/O, no clock.

A cancel is two requests: one stops the steps of a run that wait in a delay, one deletes the messages already shown.
Novu forgets a cancel that arrives before its run exists, and its queue may lag for minutes. So "nothing there" is final
only once Novu shows a run that has ended. A 404 is no error here: there is nothing to cancel.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dispatcher.decisions.backoff import CANCEL_BACKOFF
from dispatcher.decisions.classification import classify_failure, parse_json
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import PendingCancel, RecipientState

STOPPED = "stopped"
REMOVED = "removed"
NOTHING_THERE = "nothing_there"
GIVEN_UP = "cancel_given_up"
NOT_RUN_YET = "not_run_yet"
OPEN_JOBS = {"pending", "queued", "delayed", "running"}
"""Statuses of a job that Novu still executes, unless the run was cancelled."""
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


def classify_runs(status: int, headers: Mapping[str, str], body: bytes) -> CallResult:
    """Return the meaning of Novu's list of runs for a trigger of which there was nothing to cancel.

    ACCEPTED: Novu has ended its run; RETRY: it has not begun or not ended it. `headers` has lower-case names.
    """
    parsed = parse_json(body)
    if status != 200:
        return classify_failure(status, headers, parsed, body, replayed=False)
    runs = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(runs, list):
        return CallResult(AnswerClass.UNKNOWN, "unreadable_answer", "Novu's list of runs could not be read")
    if not runs or any(is_open(run) for run in runs):
        return CallResult(AnswerClass.RETRY, NOT_RUN_YET, "Novu has not run it yet")
    return CallResult(AnswerClass.ACCEPTED, NOTHING_THERE)


def is_open(run: Any) -> bool:
    """Whether a run has jobs that Novu will still execute."""
    jobs = run.get("jobs") if isinstance(run, dict) else None
    statuses = (
        {str(job.get("status")) for job in jobs if isinstance(job, dict)} if isinstance(jobs, list) else set[str]()
    )
    return bool(statuses & OPEN_JOBS) and "canceled" not in statuses


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
