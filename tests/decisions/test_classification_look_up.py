"""The meaning of Novu's list of runs for one recipient: only a run is acceptance, only an empty list means none."""

import json
from typing import Any

import pytest

from dispatcher.decisions.classification import classify_lookup
from dispatcher.models.call_result import AnswerClass, CallResult


def answer(data: Any, status: int = 200) -> CallResult:
    """Return what a page with these runs means for ana."""
    return classify_lookup(status, {"retry-after": "7"}, json.dumps({"data": data}).encode(), "ana")


@pytest.mark.parametrize("run", [{"subscriber": {"subscriberId": "ana"}}, {"subscriber": None}, {}, {"subscriber": {}}])
def test_look_up_with_a_run_is_acceptance(run: Any):
    assert answer([run]) == CallResult(AnswerClass.ACCEPTED, "found")


@pytest.mark.parametrize("runs", [[], [{"subscriber": {"subscriberId": "bo"}}]])
def test_look_up_without_our_run_is_not_found(runs: Any):
    assert (answer(runs).answer_class, answer(runs).code) == (AnswerClass.RETRY, "not_found")


@pytest.mark.parametrize("status", [204, 301, 400, 408, 422, 429, 500, 503])
def test_look_up_with_another_status_is_unknown(status: int):
    outcome = answer([], status)
    assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "look_up_failed")
    assert not outcome.new_epoch
    assert answer([], 429).retry_after == 7


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_look_up_with_an_account_error_stays_an_account_error(status: int):
    assert answer([], status).answer_class is AnswerClass.ACCOUNT_ERROR


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"data": {}}', b'{"data": null}'])
def test_look_up_with_an_unreadable_page_is_unknown(body: bytes):
    assert classify_lookup(200, {}, body, "ana").answer_class is AnswerClass.UNKNOWN
