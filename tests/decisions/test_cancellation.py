"""The meaning of Novu's answers to a cancel, and how long it is retried."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.decisions.backoff import CANCEL_BACKOFF
from dispatcher.decisions.cancellation import (
    BREAKER_WAIT,
    GIVEN_UP,
    MIN_CALL_AGE,
    NOTHING_THERE,
    REMOVED,
    STOPPED,
    apply_cancel_result,
    classify_cancel,
)
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import PendingCancel, RecipientState

HORIZON = timedelta(hours=6)
OLD = MIN_CALL_AGE + timedelta(seconds=1)


def cancel(*, tries: int = 0, age: timedelta = OLD) -> PendingCancel:
    return PendingCancel(1, 1, "ana", "tx", RecipientState.ACCEPTED, datetime.now(UTC), tries, age)


@pytest.mark.parametrize(
    ("status", "body", "verdict", "code"),
    [
        (200, {"data": True}, AnswerClass.ACCEPTED, STOPPED),
        (200, {"data": False}, AnswerClass.ACCEPTED, NOTHING_THERE),
        (200, {"data": "yes"}, AnswerClass.UNKNOWN, "unreadable_answer"),
        (200, [], AnswerClass.UNKNOWN, "unreadable_answer"),
        (204, None, AnswerClass.ACCEPTED, REMOVED),
        (404, {"message": "Invalid transactionId or channel"}, AnswerClass.ACCEPTED, NOTHING_THERE),
        (401, {"message": "API Key not found"}, AnswerClass.ACCOUNT_ERROR, "http_401"),
        (402, {}, AnswerClass.ACCOUNT_ERROR, "http_402"),
        (403, {}, AnswerClass.ACCOUNT_ERROR, "http_403"),
        (400, {}, AnswerClass.REFUSED, "http_400"),
        (429, {}, AnswerClass.THROTTLED, "http_429"),
        (500, {}, AnswerClass.UNKNOWN, "http_500"),
        (502, "<html>", AnswerClass.UNKNOWN, "http_502"),
        (503, {"statusCode": 503}, AnswerClass.RETRY, "http_503"),
        (503, {}, AnswerClass.UNKNOWN, "http_503"),
    ],
)
def test_answer_to_a_cancel_is_classified(status: int, body: object, verdict: AnswerClass, code: str):
    outcome = classify_cancel(status, {}, json.dumps(body).encode())
    assert (outcome.answer_class, outcome.code) == (verdict, code)


@pytest.mark.parametrize("code", [STOPPED, REMOVED, NOTHING_THERE])
def test_accepted_cancel_is_final(code: str):
    item = cancel(tries=3)
    apply_cancel_result(item, CallResult(AnswerClass.ACCEPTED, code), HORIZON)
    assert (item.state, item.outcome, item.retry_in, item.attempts) == (RecipientState.CANCELLED, code, None, 3)


def test_missing_run_soon_after_the_call_is_retried():
    item = cancel(age=MIN_CALL_AGE - timedelta(seconds=1))
    apply_cancel_result(item, CallResult(AnswerClass.ACCEPTED, NOTHING_THERE), HORIZON)
    assert (item.state, item.retry_in, item.attempts) == (RecipientState.ACCEPTED, timedelta(seconds=1), 1)


@pytest.mark.parametrize(
    "verdict", [AnswerClass.RETRY, AnswerClass.THROTTLED, AnswerClass.UNKNOWN, AnswerClass.REFUSED]
)
def test_failed_cancel_is_retried_with_growing_waits(verdict: AnswerClass):
    item = cancel(tries=3)
    apply_cancel_result(item, CallResult(verdict, "http_500", "HTTP 500"), HORIZON)
    assert (item.state, item.retry_in, item.attempts, item.error) == (
        RecipientState.ACCEPTED,
        timedelta(seconds=8),
        4,
        "HTTP 500",
    )


def test_retry_after_sets_the_wait():
    item = cancel()
    apply_cancel_result(item, CallResult(AnswerClass.RETRY, "http_429", "", retry_after=30), HORIZON)
    assert item.retry_in == timedelta(seconds=30)


def test_tripped_breaker_spends_no_attempt():
    item = cancel(tries=2)
    apply_cancel_result(item, CallResult(AnswerClass.ACCOUNT_ERROR, "http_401", "HTTP 401"), timedelta())
    assert (item.state, item.retry_in, item.attempts) == (RecipientState.ACCEPTED, BREAKER_WAIT, 2)


@pytest.mark.parametrize("horizon", [timedelta(seconds=1), timedelta(minutes=5), HORIZON])
def test_cancel_is_given_up_at_the_horizon(horizon: timedelta):
    item, waited = cancel(), timedelta()
    while item.outcome != GIVEN_UP:
        apply_cancel_result(item, CallResult(AnswerClass.RETRY, "http_503", "HTTP 503"), horizon)
        waited += item.retry_in or timedelta()
    assert horizon <= waited <= horizon + CANCEL_BACKOFF.cap
    assert (item.state, item.retry_in, item.error) == (RecipientState.ACCEPTED, None, "HTTP 503")
