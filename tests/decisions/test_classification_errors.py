"""The meaning of Novu's error answers; any error text can be stored and logged."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.classification import MAX_RETRY_AFTER_SECONDS, classify
from dispatcher.models.call_result import AnswerClass
from tests.decisions.answers_of_novu import ECHO, REPLAY, assert_storable, bulk_of, error, single


class TestErrors:
    @pytest.mark.parametrize(
        ("message", "words"),
        [
            (
                ["payload must be an object", "to should not be empty"],
                "payload must be an object; to should not be empty",
            ),
            ("Unexpected token } in JSON", "Unexpected token } in JSON"),
            ({"payload": ["/title is required"]}, '{"payload": ["/title is required"]}'),
            ([{"field": "to"}], "{'field': 'to'}"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 413, 415, 418, 422, 405, 410])
    def test_request_error_is_refused_with_novus_message(self, status: int, message: Any, words: str):
        outcome = single(status, error(status, message, error="Bad Request"), ECHO)
        assert outcome.answer_class is AnswerClass.REFUSED
        assert outcome.code == f"http_{status}"
        assert outcome.detail == f"HTTP {status}: {words}"
        assert outcome.new_epoch  # the stored refusal would be replayed to a corrected request

    def test_sentences_about_fields_are_told(self):
        general = {"general": {"messages": ["to should not be empty", "to must be an object"], "value": "No Value"}}
        outcome = single(422, error(422, "Validation Error", errors=general, ctx={}), ECHO)
        assert outcome.detail == "HTTP 422: Validation Error; to should not be empty; to must be an object"
        several = {"events": {"messages": ["at most 100"]}, "to": {"messages": ["to is wrong"]}}
        outcome = single(422, error(422, "Refused: events: at most 100", errors=several), ECHO)
        assert outcome.detail == "HTTP 422: Refused: events: at most 100; to is wrong"

    @pytest.mark.parametrize(
        "errors", [None, [], "x", {"to": None}, {"to": {"messages": None}}, {"to": {"messages": [5]}}]
    )
    def test_errors_of_another_form_are_not_read(self, errors: Any):
        outcome = single(422, error(422, "Validation Error", errors=errors), ECHO)
        assert outcome.detail == "HTTP 422: Validation Error"

    def test_unknown_workflow_is_refused(self):
        outcome = single(422, error(422, "workflow_not_found", error="Unprocessable Entity"), ECHO)
        assert (outcome.answer_class, outcome.detail) == (AnswerClass.REFUSED, "HTTP 422: workflow_not_found")

    def test_key_used_for_another_body_is_unknown(self):
        message = 'Request with key "n1-x:0" is being reused for a different body'
        outcome = single(422, error(422, message), ECHO)
        assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "key_reused")
        assert not outcome.new_epoch

    @pytest.mark.parametrize(
        ("status", "message", "remedy"),
        [
            (401, "API Key not found", "NOVU_SECRET_KEY"),
            (402, "Quota exceeded", "NOVU_SECRET_KEY"),
            (403, "Forbidden resource", "NOVU_SECRET_KEY"),
            (404, "Cannot POST /v2/v1/events/trigger", "NOVU_API_URL"),
        ],
    )
    def test_account_error_names_the_setting(self, status: int, message: str, remedy: str):
        outcome = single(status, error(status, message))
        assert outcome.answer_class is AnswerClass.ACCOUNT_ERROR
        assert message in outcome.detail
        assert remedy in outcome.detail
        assert not outcome.new_epoch

    @pytest.mark.parametrize(
        ("status", "verdict"), [(409, AnswerClass.THROTTLED), (429, AnswerClass.THROTTLED), (503, AnswerClass.RETRY)]
    )
    def test_busy_novu_is_retried_with_the_same_key(self, status: int, verdict: AnswerClass):
        outcome = single(status, error(status, "later"), {"retry-after": "4"})
        assert (outcome.answer_class, outcome.retry_after, outcome.new_epoch) == (verdict, 4.0, False)

    @pytest.mark.parametrize("status", [408, 502, 504, 520, 599])
    def test_answer_of_a_gateway_is_unknown(self, status: int):
        outcome = single(status, b"<html><h1>Bad gateway</h1></html>")
        assert (outcome.answer_class, outcome.new_epoch) == (AnswerClass.UNKNOWN, False)
        assert "Bad gateway" in outcome.detail

    @pytest.mark.parametrize("body", [b"<html><h1>Application error</h1></html>", b"", b"{}", b"no server available"])
    def test_f190_503_that_is_not_novus_own_is_unknown(self, body: bytes):
        outcome = single(503, body, {"retry-after": "4"})
        assert (outcome.answer_class, outcome.retry_after, outcome.new_epoch) == (AnswerClass.UNKNOWN, 4.0, False)

    def test_500_stored_under_the_key_needs_a_new_one(self):
        body = error(500, "Internal server error", errorId="e1")
        assert (single(500, body, ECHO).answer_class, single(500, body, ECHO).new_epoch) == (AnswerClass.UNKNOWN, True)
        assert (single(500, body).answer_class, single(500, body).new_epoch) == (AnswerClass.UNKNOWN, False)

    @pytest.mark.parametrize("status", [400, 409, 422, 429, 500, 502, 503])
    def test_replayed_error_is_never_repeated_under_its_key(self, status: int):
        outcome = single(status, error(status, "x"), REPLAY)
        assert outcome.new_epoch
        assert outcome.answer_class is not AnswerClass.ACCEPTED

    @pytest.mark.parametrize("body", [b"", b"\x00", b"   ", b"[" * 3000 + b"]" * 3000, b'{"message": null}'])
    @pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
    def test_error_without_message_names_its_status(self, status: int, body: bytes):
        outcome = single(status, body)
        assert outcome.detail.startswith(f"HTTP {status}:")
        assert_storable(outcome)


class TestRetryAfter:
    def test_retry_after_of_a_day_waits_ten_minutes(self):
        assert single(429, b"", {"retry-after": "86400"}).retry_after == 600

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("1", 1.0),
            ("0", 0.0),
            ("2.5", 2.5),
            (" 7 ", 7.0),
            ("99999999", MAX_RETRY_AFTER_SECONDS),
            ("1e300", MAX_RETRY_AFTER_SECONDS),
            ("inf", MAX_RETRY_AFTER_SECONDS),
            ("-1", None),
            ("-inf", None),
            ("nan", None),
            ("", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("1,2", None),
            ("9" * 5000, MAX_RETRY_AFTER_SECONDS),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_retry_after_is_bounded_seconds_or_none(self, value: str, seconds: float | None):
        assert single(429, error(429, "API rate limit exceeded"), {"retry-after": value}).retry_after == seconds

    @given(st.text(max_size=20))
    def test_any_retry_after_gives_a_bounded_wait(self, value: str):
        wait = single(503, b"", {"retry-after": value}).retry_after
        assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_SECONDS


class TestErrorText:
    @pytest.mark.parametrize(
        "message",
        [
            "a\x00b",
            "\ud800",
            "\udfff tail",
            "x" * 100_000,
            ["\x00", "\ud800"],
            {"\x00": "\ud800"},
            "two\nlines\r\t\x1b[31m",
        ],
        ids=lambda message: repr(message)[:20],
    )
    def test_error_text_is_one_bounded_line_without_nul(self, message: Any):
        assert_storable(single(400, error(400, message)))
        [item, _] = classify(201, {}, bulk_of({"status": "error", "error": message}, {}), 2, bulk=True)
        assert_storable(item)
        assert_storable(
            single(201, json.dumps({"data": {"status": message if isinstance(message, str) else "x"}}).encode())
        )

    def test_deeply_nested_errors_do_not_raise(self):
        around = sys.getrecursionlimit()
        for depth in [*range(around - 150, around + 10, 4), 3000, 100_000]:
            nested = b"[" * depth + b"]" * depth
            assert_storable(single(400, b'{"message": [' + nested + b"]}"))
            assert_storable(single(400, b'{"message": {"a": ' + nested + b"}}"))
            [item] = classify(201, {}, b'{"data": [{"status": "error", "error": [' + nested + b"]}]}", 1, bulk=True)
            assert_storable(item)
