"""The meaning of each of Novu's answers. The bodies are those that the real server sent, not those of its
specification. Only `processed` is acceptance, and no answer raises.
"""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.decisions.classification import REFUSED_STATUSES, classify
from dispatcher.models.call_result import AnswerClass, CallResult
from tests.decisions.answers_of_novu import ECHO, REPLAY, answer, assert_storable, bulk_of, error, single

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["processed", "error"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "status", "error", "message"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {"status": st.sampled_from(["processed", "error", *REFUSED_STATUSES]) | st.text(max_size=9)},
    optional={"error": JSON},
)
ANSWER = JSON | st.fixed_dictionaries({"data": ITEM | st.lists(ITEM | JSON, max_size=4)})
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "idempotency-key", "idempotency-replay"]), st.text(max_size=12), max_size=3
)


class TestAccepted:
    @pytest.mark.parametrize("status", [200, 201])
    def test_processed_is_acceptance(self, status: int):
        outcome = single(
            status, answer("processed", transactionId="tx", activityFeedLink="https://example.test/x"), ECHO
        )
        assert outcome == CallResult(AnswerClass.ACCEPTED, "processed")

    def test_replayed_acceptance_is_acceptance_with_its_own_code(self):
        assert single(201, answer("processed"), REPLAY) == CallResult(AnswerClass.ACCEPTED, "processed", replayed=True)

    def test_acknowledged_alone_is_unknown(self):
        assert single(201, b'{"data": {"acknowledged": true}}').answer_class is AnswerClass.UNKNOWN

    @given(status=st.integers(100, 599), headers=HEADERS, value=ANSWER, events=st.integers(1, 4), bulk=st.booleans())
    @example(status=201, headers={}, value={"data": [{"status": "processed"}]}, events=1, bulk=False)
    @example(status=201, headers={}, value={"data": {"status": "processed"}}, events=1, bulk=True)
    @example(status=500, headers={}, value={"data": {"status": "processed"}}, events=1, bulk=False)
    def test_only_processed_is_acceptance(
        self, *, status: int, headers: dict[str, str], value: Any, events: int, bulk: bool
    ):
        outcomes = classify(status, headers, json.dumps(value).encode(), events, bulk=bulk)
        assert len(outcomes) == events
        data: Any = value.get("data") if isinstance(value, dict) else None
        items: Any = data if bulk else [data]
        for place, outcome in enumerate(outcomes):
            if outcome.answer_class is AnswerClass.ACCEPTED:
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
    def test_answer_without_json_is_no_acceptance(
        self, *, status: int, headers: dict[str, str], body: bytes, events: int, bulk: bool
    ):
        outcomes = classify(status, headers, b"<" + body, events, bulk=bulk)
        assert len(outcomes) == events
        assert all(outcome.answer_class is not AnswerClass.ACCEPTED for outcome in outcomes)


class TestAnswersWithoutAcceptance:
    @pytest.mark.parametrize("status", REFUSED_STATUSES)
    def test_status_that_queued_nothing_is_refused_with_a_reason(self, status: str):
        outcome = single(201, answer(status))
        assert (outcome.answer_class, outcome.code, outcome.detail) == (
            AnswerClass.REFUSED,
            status,
            REFUSED_STATUSES[status],
        )

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
    def test_unreadable_or_unknown_answer_is_unknown(self, body: bytes):
        outcome = single(201, body)
        assert outcome.answer_class is AnswerClass.UNKNOWN
        assert outcome.code in ("unknown_status", "unreadable_answer")
        assert not outcome.new_epoch  # the same key must be asked again: it may have been accepted
        assert_storable(outcome)

    @pytest.mark.parametrize("status", [[], {}, ["processed"], {"processed": True}], ids=str)
    def test_status_that_is_no_text_is_unknown(self, status: Any):
        body = json.dumps({"data": {"status": status}}).encode()
        assert single(201, body).answer_class is AnswerClass.UNKNOWN

    def test_redirect_is_unknown(self):
        assert single(302, b"", {"location": "https://elsewhere.test"}).answer_class is AnswerClass.UNKNOWN


class TestBulkCalls:
    def test_each_event_has_its_own_outcome_in_order(self):
        items: list[dict[str, Any]] = [
            {"status": "processed"},
            {"status": "error", "error": ["workflow_not_found"]},
            {"status": "error", "error": ["connection to storage lost"]},
            {"status": "trigger_not_active"},
            {"status": "what_is_this"},
        ]
        outcomes = classify(201, ECHO, json.dumps({"data": items}).encode(), 5, bulk=True)
        assert [outcome.answer_class for outcome in outcomes] == [
            AnswerClass.ACCEPTED,
            AnswerClass.REFUSED,
            AnswerClass.RETRY,
            AnswerClass.REFUSED,
            AnswerClass.UNKNOWN,
        ]

    @pytest.mark.parametrize(
        "text",
        ["workflow_not_found", "payload should not be null or undefined", "to must be a string", "Topic not found"],
    )
    def test_permanent_item_error_is_refused(self, text: str):
        [_, outcome] = classify(
            201, {}, bulk_of({"status": "processed"}, {"status": "error", "error": [text]}), 2, bulk=True
        )
        assert (outcome.answer_class, outcome.detail) == (AnswerClass.REFUSED, text)

    @pytest.mark.parametrize("messages", [None, [], "boom", ["boom", "bang"], {"a": 1}, [[1], None]])
    def test_other_item_error_was_not_queued_and_needs_a_new_key(self, messages: Any):
        item = {"status": "error", "error": messages}
        [outcome, _] = classify(201, {}, bulk_of(item, {"status": "processed"}), 2, bulk=True)
        assert (outcome.answer_class, outcome.new_epoch) == (AnswerClass.RETRY, True)
        assert outcome.detail

    @pytest.mark.parametrize("count", [0, 1, 2, 4, 100])
    def test_wrong_number_of_results_is_unknown_for_all_events(self, count: int):
        outcomes = classify(201, {}, bulk_of(*[{"status": "processed"}] * count), 3, bulk=True)
        assert [(o.answer_class, o.code) for o in outcomes] == [(AnswerClass.UNKNOWN, "unreadable_answer")] * 3

    def test_single_answer_to_a_bulk_call_is_unknown(self):
        outcomes = classify(201, {}, answer("processed"), 2, bulk=True)
        assert {outcome.answer_class for outcome in outcomes} == {AnswerClass.UNKNOWN}

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [(400, AnswerClass.REFUSED_TOGETHER), (503, AnswerClass.RETRY), (500, AnswerClass.UNKNOWN)],
    )
    def test_error_of_a_bulk_call_applies_to_every_event(self, status: int, verdict: AnswerClass):
        assert [o.answer_class for o in classify(status, {}, error(status, "x"), 3, bulk=True)] == [verdict] * 3
