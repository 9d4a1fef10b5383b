"""What each of Novu's answers means. The bodies are those the real server was seen to send, not those of its
specification. Whatever comes, nothing but `processed` is acceptance, and nothing raises.
"""

import json
import sys
from typing import Any

import pytest
from core_values import STATES, recipient
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.models import Outcome, State, Verdict
from dispatcher.outcomes import MAX_DETAIL, MAX_RETRY_AFTER, REFUSING, apply, classify

ECHO = {"idempotency-key": "k"}
REPLAY = {**ECHO, "idempotency-replay": "true"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["processed", "error"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "status", "error", "message"]) | st.text(max_size=3), inner, max_size=4
        ).filter(lambda value: not isinstance(value.get("status"), list | dict))
    ),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {"status": st.sampled_from(["processed", "error", *REFUSING]) | st.text(max_size=9)}, optional={"error": JSON}
)
ANSWER = JSON | st.fixed_dictionaries({"data": ITEM | st.lists(ITEM | JSON, max_size=4)})
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "idempotency-key", "idempotency-replay"]), st.text(max_size=12), max_size=3
)


def error(status: int, message: Any, **more: Any) -> bytes:
    """Return Novu's usual error body."""
    shape = {"statusCode": status, "timestamp": "2026-01-01T00:00:00.000Z", "path": "/v1/events/trigger"}
    return json.dumps({**shape, "message": message, **more}).encode()


def answer(status: str, **more: Any) -> bytes:
    """Return Novu's usual answer to a single trigger."""
    return json.dumps({"data": {"acknowledged": True, "status": status, **more}}).encode()


def single(status: int, body: bytes, headers: dict[str, str] | None = None) -> Outcome:
    """Return the outcome of a call with one event."""
    [outcome] = classify(status, headers or {}, body, 1, bulk=False)
    return outcome


class TestAccepted:
    @pytest.mark.parametrize("status", [200, 201])
    def test_processed_is_acceptance(self, status: int):
        outcome = single(
            status, answer("processed", transactionId="tx", activityFeedLink="https://example.test/x"), ECHO
        )
        assert outcome == Outcome(Verdict.ACCEPTED, "processed")

    def test_a_replayed_acceptance_is_acceptance_and_says_so(self):
        assert single(201, answer("processed"), REPLAY) == Outcome(Verdict.ACCEPTED, "processed", replayed=True)

    def test_acknowledged_alone_is_nothing(self):
        assert single(201, b'{"data": {"acknowledged": true}}').verdict is Verdict.AMBIGUOUS

    @given(status=st.integers(100, 599), headers=HEADERS, value=ANSWER, events=st.integers(1, 4), bulk=st.booleans())
    @example(status=201, headers={}, value={"data": [{"status": "processed"}]}, events=1, bulk=False)
    @example(status=201, headers={}, value={"data": {"status": "processed"}}, events=1, bulk=True)
    @example(status=500, headers={}, value={"data": {"status": "processed"}}, events=1, bulk=False)
    def test_nothing_but_processed_is_acceptance(
        self, *, status: int, headers: dict[str, str], value: Any, events: int, bulk: bool
    ):
        outcomes = classify(status, headers, json.dumps(value).encode(), events, bulk=bulk)
        assert len(outcomes) == events
        data: Any = value.get("data") if isinstance(value, dict) else None
        items: Any = data if bulk else [data]
        for place, outcome in enumerate(outcomes):
            if outcome.verdict is Verdict.ACCEPTED:
                assert 200 <= status < 300
                assert len(items) == events
                assert items[place]["status"] == "processed"
            assert_storable(outcome)

    @given(
        status=st.integers(100, 599),
        headers=HEADERS,
        body=st.binary(max_size=80),
        events=st.integers(1, 100),
        bulk=st.booleans(),
    )
    def test_bytes_that_are_no_json_accept_nothing(
        self, *, status: int, headers: dict[str, str], body: bytes, events: int, bulk: bool
    ):
        outcomes = classify(status, headers, b"<" + body, events, bulk=bulk)
        assert len(outcomes) == events
        assert all(outcome.verdict is not Verdict.ACCEPTED for outcome in outcomes)


class TestAnswersWithoutAcceptance:
    @pytest.mark.parametrize("status", REFUSING)
    def test_a_status_that_queued_nothing_is_refused_in_words(self, status: str):
        outcome = single(201, answer(status))
        assert (outcome.verdict, outcome.code, outcome.detail) == (Verdict.REFUSED, status, REFUSING[status])

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'{"data": null}',
            b'{"data": []}',
            b'{"data": "processed"}',
            b'{"data": {"status": null}}',
            b'{"data": {"status": 1}}',
            b'{"data": {"status": "Processed"}}',
            b'{"data": {"status": "queued_elsewhere", "acknowledged": true}}',
            b'{"status": "processed"}',
            b"<html>processed</html>",
            b'{"data": {"status": "processed"}',
            b"\xff\xfe\x00",
            b"[" * 3000 + b"]" * 3000,
            b'{"data":' * 3000 + b"1" + b"}" * 3000,
            b'{"data": {"status": ' + b"7" * 5000 + b"}}",
        ],
        ids=lambda body: body[:30].decode(errors="replace"),
    )
    def test_an_unreadable_or_unknown_answer_is_ambiguous(self, body: bytes):
        outcome = single(201, body)
        assert outcome.verdict is Verdict.AMBIGUOUS
        assert outcome.code in ("unknown_status", "unreadable_answer")
        assert not outcome.new_epoch  # the same key must be asked again: it may have been accepted
        assert_storable(outcome)

    def test_a_redirect_is_ambiguous(self):
        assert single(302, b"", {"location": "https://elsewhere.test"}).verdict is Verdict.AMBIGUOUS


class TestBulk:
    def test_each_event_has_its_own_outcome_in_order(self):
        items: list[dict[str, Any]] = [
            {"status": "processed"},
            {"status": "error", "error": ["workflow_not_found"]},
            {"status": "error", "error": ["connection to storage lost"]},
            {"status": "trigger_not_active"},
            {"status": "what_is_this"},
        ]
        outcomes = classify(201, ECHO, json.dumps({"data": items}).encode(), 5, bulk=True)
        assert [outcome.verdict for outcome in outcomes] == [
            Verdict.ACCEPTED,
            Verdict.REFUSED,
            Verdict.RETRY,
            Verdict.REFUSED,
            Verdict.AMBIGUOUS,
        ]

    @pytest.mark.parametrize(
        "text",
        ["workflow_not_found", "payload should not be null or undefined", "to must be a string", "Topic not found"],
    )
    def test_an_item_error_that_repeats_itself_is_refused(self, text: str):
        [_, outcome] = classify(
            201, {}, bulk_of({"status": "processed"}, {"status": "error", "error": [text]}), 2, bulk=True
        )
        assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, text)

    @pytest.mark.parametrize("messages", [None, [], "boom", ["boom", "bang"], {"a": 1}, [[1], None]])
    def test_another_item_error_was_surely_not_queued_and_needs_a_new_key(self, messages: Any):
        item = {"status": "error", "error": messages}
        [outcome, _] = classify(201, {}, bulk_of(item, {"status": "processed"}), 2, bulk=True)
        assert (outcome.verdict, outcome.new_epoch) == (Verdict.RETRY, True)
        assert outcome.detail

    @pytest.mark.parametrize("count", [0, 1, 2, 4, 100])
    def test_a_wrong_number_of_results_says_nothing_about_any_event(self, count: int):
        outcomes = classify(201, {}, bulk_of(*[{"status": "processed"}] * count), 3, bulk=True)
        assert [(o.verdict, o.code) for o in outcomes] == [(Verdict.AMBIGUOUS, "unreadable_answer")] * 3

    def test_a_single_answer_to_a_bulk_call_says_nothing(self):
        outcomes = classify(201, {}, answer("processed"), 2, bulk=True)
        assert {outcome.verdict for outcome in outcomes} == {Verdict.AMBIGUOUS}

    @pytest.mark.parametrize(
        ("status", "verdict"), [(400, Verdict.REFUSED), (503, Verdict.RETRY), (500, Verdict.AMBIGUOUS)]
    )
    def test_an_error_of_the_call_is_every_events_error(self, status: int, verdict: Verdict):
        assert [o.verdict for o in classify(status, {}, error(status, "x"), 3, bulk=True)] == [verdict] * 3


def bulk_of(*items: dict[str, Any]) -> bytes:
    """Return Novu's answer to a bulk call."""
    return json.dumps({"data": items}).encode()


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
    def test_a_fault_of_the_request_is_refused_with_novus_words(self, status: int, message: Any, words: str):
        outcome = single(status, error(status, message, error="Bad Request"), ECHO)
        assert outcome.verdict is Verdict.REFUSED
        assert outcome.code == f"http_{status}"
        assert outcome.detail == f"HTTP {status}: {words}"
        assert outcome.new_epoch  # the stored refusal would be replayed to a corrected request

    def test_an_unknown_workflow_is_refused(self):
        outcome = single(422, error(422, "workflow_not_found", error="Unprocessable Entity"), ECHO)
        assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, "HTTP 422: workflow_not_found")

    def test_a_key_used_for_another_body_may_have_had_its_effect(self):
        message = 'Request with key "n1-x:0" is being reused for a different body'
        outcome = single(422, error(422, message), ECHO)
        assert (outcome.verdict, outcome.code) == (Verdict.AMBIGUOUS, "key_reused")
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
    def test_what_no_row_can_help_is_systemic_and_names_the_setting(self, status: int, message: str, remedy: str):
        outcome = single(status, error(status, message))
        assert outcome.verdict is Verdict.SYSTEMIC
        assert message in outcome.detail
        assert remedy in outcome.detail
        assert not outcome.new_epoch

    @pytest.mark.parametrize("status", [409, 429, 503])
    def test_a_busy_novu_is_asked_again_with_the_same_key(self, status: int):
        outcome = single(status, error(status, "later"), {"retry-after": "4"})
        assert (outcome.verdict, outcome.retry_after, outcome.new_epoch) == (Verdict.RETRY, 4.0, False)

    @pytest.mark.parametrize("status", [408, 502, 504, 520, 599])
    def test_an_answer_from_in_between_is_ambiguous(self, status: int):
        outcome = single(status, b"<html><h1>Bad gateway</h1></html>")
        assert (outcome.verdict, outcome.new_epoch) == (Verdict.AMBIGUOUS, False)
        assert "Bad gateway" in outcome.detail

    def test_a_500_stored_under_the_key_needs_a_new_one(self):
        body = error(500, "Internal server error", errorId="e1")
        assert (single(500, body, ECHO).verdict, single(500, body, ECHO).new_epoch) == (Verdict.AMBIGUOUS, True)
        assert (single(500, body).verdict, single(500, body).new_epoch) == (Verdict.AMBIGUOUS, False)

    @pytest.mark.parametrize("status", [400, 409, 422, 429, 500, 502, 503])
    def test_a_replayed_error_is_never_asked_for_again_under_its_key(self, status: int):
        outcome = single(status, error(status, "x"), REPLAY)
        assert outcome.new_epoch
        assert outcome.verdict is not Verdict.ACCEPTED

    @pytest.mark.parametrize("body", [b"", b"\x00", b"   ", b"[" * 3000 + b"]" * 3000, b'{"message": null}'])
    @pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
    def test_an_error_without_words_still_names_its_status(self, status: int, body: bytes):
        outcome = single(status, body)
        assert outcome.detail.startswith(f"HTTP {status}:")
        assert_storable(outcome)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("1", 1.0),
            ("0", 0.0),
            ("2.5", 2.5),
            (" 7 ", 7.0),
            ("99999999", MAX_RETRY_AFTER),
            ("1e300", MAX_RETRY_AFTER),
            ("inf", MAX_RETRY_AFTER),
            ("-1", None),
            ("-inf", None),
            ("nan", None),
            ("", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("1,2", None),
            ("9" * 5000, MAX_RETRY_AFTER),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_it_is_seconds_within_bounds_or_nothing(self, value: str, seconds: float | None):
        assert single(429, error(429, "API rate limit exceeded"), {"retry-after": value}).retry_after == seconds

    @given(st.text(max_size=20))
    def test_whatever_it_says_the_wait_is_bounded(self, value: str):
        wait = single(503, b"", {"retry-after": value}).retry_after
        assert wait is None or 0 <= wait <= MAX_RETRY_AFTER


class TestWords:
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
    def test_they_are_one_bounded_line_that_postgres_can_hold(self, message: Any):
        assert_storable(single(400, error(400, message)))
        [item, _] = classify(201, {}, bulk_of({"status": "error", "error": message}, {}), 2, bulk=True)
        assert_storable(item)
        assert_storable(
            single(201, json.dumps({"data": {"status": message if isinstance(message, str) else "x"}}).encode())
        )

    def test_no_depth_of_nesting_raises(self):
        around = sys.getrecursionlimit()
        for depth in [*range(around - 150, around + 10, 4), 3000, 100_000]:
            nested = b"[" * depth + b"]" * depth
            assert_storable(single(400, b'{"message": [' + nested + b"]}"))
            assert_storable(single(400, b'{"message": {"a": ' + nested + b"}}"))
            [item] = classify(201, {}, b'{"data": [{"status": "error", "error": [' + nested + b"]}]}", 1, bulk=True)
            assert_storable(item)


def assert_storable(outcome: Outcome) -> None:
    """A detail goes into a text column, a jsonb column and a log line."""
    outcome.detail.encode()  # a lone surrogate would raise
    assert len(outcome.detail) <= MAX_DETAIL + 60
    assert outcome.detail.isprintable()


class TestApply:
    @given(state=STATES, replayed=st.booleans())
    def test_acceptance_settles_whatever_was_before(self, *, state: State, replayed: bool):
        person = recipient(state=state, error="earlier", epoch=2)
        apply(person, Outcome(Verdict.ACCEPTED, "processed", replayed=replayed))
        assert (person.state, person.outcome, person.error, person.epoch) == (State.ACCEPTED, "processed", None, 2)

    def test_a_refusal_settles(self):
        person = recipient()
        apply(person, Outcome(Verdict.REFUSED, "http_400", "no", new_epoch=True))
        assert (person.state, person.error, person.epoch, person.settled) == (State.REFUSED, "no", 1, True)

    @pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.SYSTEMIC])
    def test_a_call_without_effect_leaves_a_fresh_recipient_planned(self, verdict: Verdict):
        person = recipient()
        apply(person, Outcome(verdict, "not_sent", "refused", 3.0))
        assert (person.state, person.outcome, person.error) == (State.PLANNED, "not_sent", "refused")
        assert person.retry_after == 3.0

    @pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.SYSTEMIC, Verdict.AMBIGUOUS])
    @pytest.mark.parametrize("state", [State.UNKNOWN, State.SENDING])
    def test_an_earlier_unknown_stays_unknown_after_a_call_without_effect(self, state: State, verdict: Verdict):
        person = recipient(state=state)
        apply(person, Outcome(verdict, "http_503", "later"))
        assert person.state is State.UNKNOWN

    def test_an_ambiguous_call_is_unknown(self):
        person = recipient()
        apply(person, Outcome(Verdict.AMBIGUOUS, "timeout", "no answer"))
        assert (person.state, person.settled, person.epoch) == (State.UNKNOWN, False, 0)

    def test_an_answer_without_a_wish_forgets_the_earlier_wait(self):
        person = recipient()
        apply(person, Outcome(Verdict.RETRY, "http_429", "later", 30.0))
        apply(person, Outcome(Verdict.RETRY, "http_503", "later"))
        assert person.retry_after == 0

    @given(verdicts=st.lists(st.sampled_from(list(Verdict)), max_size=8), new_epoch=st.booleans())
    def test_accepted_is_only_reached_by_acceptance_and_epochs_only_grow(
        self, *, verdicts: list[Verdict], new_epoch: bool
    ):
        person = recipient()
        for number, verdict in enumerate(verdicts):
            apply(person, Outcome(verdict, "code", "detail", new_epoch=new_epoch))
            assert person.epoch == (number + 1 if new_epoch else 0)
            assert (person.state is State.ACCEPTED) <= (Verdict.ACCEPTED in verdicts[: number + 1])
