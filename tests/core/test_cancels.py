"""What Novu's answers to taking a trigger back mean, and how long it is tried."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.decisions.backoff import CANCELS
from dispatcher.decisions.cancellation import GATE_WAIT, GIVEN_UP, NOTHING, REMOVED, STOPPED, YOUNG, answered, judge
from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import Cancel, State

HORIZON = timedelta(hours=6)
OLD = YOUNG + timedelta(seconds=1)


def cancel(*, tries: int = 0, age: timedelta = OLD) -> Cancel:
    return Cancel(1, 1, "ana", "tx", State.ACCEPTED, datetime.now(UTC), tries, age)


@pytest.mark.parametrize(
    ("status", "body", "verdict", "code"),
    [
        (200, {"data": True}, Verdict.ACCEPTED, STOPPED),
        (200, {"data": False}, Verdict.ACCEPTED, NOTHING),
        (200, {"data": "yes"}, Verdict.AMBIGUOUS, "unreadable_answer"),
        (200, [], Verdict.AMBIGUOUS, "unreadable_answer"),
        (204, None, Verdict.ACCEPTED, REMOVED),
        (404, {"message": "Invalid transactionId or channel"}, Verdict.ACCEPTED, NOTHING),
        (401, {"message": "API Key not found"}, Verdict.SYSTEMIC, "http_401"),
        (402, {}, Verdict.SYSTEMIC, "http_402"),
        (403, {}, Verdict.SYSTEMIC, "http_403"),
        (400, {}, Verdict.REFUSED, "http_400"),
        (429, {}, Verdict.HELD, "http_429"),
        (500, {}, Verdict.AMBIGUOUS, "http_500"),
        (502, "<html>", Verdict.AMBIGUOUS, "http_502"),
        (503, {}, Verdict.RETRY, "http_503"),
    ],
)
def test_what_an_answer_means(status: int, body: object, verdict: Verdict, code: str):
    outcome = answered(status, {}, json.dumps(body).encode())
    assert (outcome.verdict, outcome.code) == (verdict, code)


@pytest.mark.parametrize("code", [STOPPED, REMOVED, NOTHING])
def test_what_novu_did_or_had_not_to_do_is_over(code: str):
    item = cancel(tries=3)
    judge(item, Outcome(Verdict.ACCEPTED, code), HORIZON)
    assert (item.state, item.outcome, item.wait, item.attempts) == (State.CANCELLED, code, None, 3)


def test_nothing_there_soon_after_the_call_is_asked_again():
    item = cancel(age=YOUNG - timedelta(seconds=1))
    judge(item, Outcome(Verdict.ACCEPTED, NOTHING), HORIZON)
    assert (item.state, item.wait, item.attempts) == (State.ACCEPTED, timedelta(seconds=1), 1)


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.HELD, Verdict.AMBIGUOUS, Verdict.REFUSED])
def test_a_failure_is_tried_again_with_growing_waits(verdict: Verdict):
    item = cancel(tries=3)
    judge(item, Outcome(verdict, "http_500", "HTTP 500"), HORIZON)
    assert (item.state, item.wait, item.attempts, item.error) == (State.ACCEPTED, timedelta(seconds=8), 4, "HTTP 500")


def test_retry_after_is_heard():
    item = cancel()
    judge(item, Outcome(Verdict.RETRY, "http_429", "", retry_after=30), HORIZON)
    assert item.wait == timedelta(seconds=30)


def test_a_shut_gate_is_not_a_try():
    item = cancel(tries=2)
    judge(item, Outcome(Verdict.SYSTEMIC, "http_401", "HTTP 401"), timedelta())
    assert (item.state, item.wait, item.attempts) == (State.ACCEPTED, GATE_WAIT, 2)


@pytest.mark.parametrize("horizon", [timedelta(seconds=1), timedelta(minutes=5), HORIZON])
def test_it_ends_when_the_horizon_is_spent(horizon: timedelta):
    item, waited = cancel(), timedelta()
    while item.outcome != GIVEN_UP:
        judge(item, Outcome(Verdict.RETRY, "http_503", "HTTP 503"), horizon)
        waited += item.wait or timedelta()
    assert horizon <= waited <= horizon + CANCELS.most
    assert (item.state, item.wait, item.error) == (State.ACCEPTED, None, "HTTP 503")
