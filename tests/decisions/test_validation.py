"""Rows as they come from the outbox: a valid row is passed on unchanged, an invalid one has a reason."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.identity import body_hash, transaction_id
from dispatcher.decisions.validation import parse_row
from dispatcher.models.notification import DEFAULT_LIMITS, Notification, RecipientState, RowLimits
from tests.decisions.sample_rows import acquired_row

MAX_BYTES = DEFAULT_LIMITS.max_payload_bytes
DEEP = '{"a":' * 6000 + "1" + "}" * 6000
LONG = '{"n": ' + "7" * 5000 + "}"


def notification(**columns: Any) -> Notification:
    """Return what a row becomes."""
    return parse_row(acquired_row(**columns)).notification


def test_valid_row_is_read_unchanged():
    taken = parse_row(
        acquired_row(fence=9, attempts=2, generation=3, since_first_claim=timedelta(minutes=4), eligible=False)
    )
    row = taken.notification
    assert taken.eligible is False
    assert (row.id, row.generation, row.fence, row.attempts, row.since_first_claim) == (
        7,
        3,
        9,
        2,
        timedelta(minutes=4),
    )
    assert (row.workflow_key, row.payload, row.overrides, row.validation_error) == (
        "welcome",
        '{"title": "Lift"}',
        None,
        None,
    )
    assert row.body_hash == body_hash("welcome", '{"title": "Lift"}', None)
    [person] = row.recipients
    assert (person.id, person.ordinal, person.state, person.epoch) == ("ana", 0, RecipientState.PLANNED, 0)
    assert person.transaction_id == transaction_id("b1", 7, 3, "ana")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"has_workflow": False, "workflow_key": None, "workflow_usable": False},
            "notification_workflow_id is not set",
        ),
        ({"workflow_key": None, "workflow_usable": False}, "notification_workflow_id names no workflow"),
        ({"workflow_shared": False}, "notification_workflow_id names a workflow of another enterprise"),
        ({"workflow_usable": False}, "workflow 'welcome' is not published or is deactivated"),
        ({"recipients": []}, "recipients are empty"),
        ({"recipients": None}, "recipients are empty"),
        ({"recipients": ["ana", None]}, "recipients hold a NULL"),
        ({"recipients": ["x"] * (DEFAULT_LIMITS.max_recipients + 1)}, "100001 recipients; at most 100000"),
        ({"payload": "[1]"}, "payload is not a JSON object"),
        ({"payload": '"text"'}, "payload is not a JSON object"),
        ({"payload": "1"}, "payload is not a JSON object"),
        ({"payload": "null"}, "payload is not a JSON object"),
        ({"payload": "true"}, "payload is not a JSON object"),
        ({"payload": DEEP}, "payload is nested too deeply"),
        ({"payload": LONG}, "payload cannot be read"),
        ({"overrides": "[]"}, "overrides is not a JSON object"),
        ({"overrides": "false"}, "overrides is not a JSON object"),
        ({"overrides": DEEP}, "overrides is nested too deeply"),
        (
            {"overrides": '{"severity": "urgent"}'},
            "overrides.severity is 'urgent'; Novu knows none, low, medium and high",
        ),
        ({"overrides": '{"severity": "High"}'}, "overrides.severity is 'High'"),
        ({"overrides": '{"severity": ["high"]}'}, "overrides.severity is ['high']"),
        ({"overrides": LONG}, "overrides cannot be read"),
        ({"payload": None, "payload_bytes": MAX_BYTES + 1}, "take 524289 bytes; the limit is 524288"),
        ({"overrides": None, "overrides_bytes": MAX_BYTES}, "the limit is 524288 (DISPATCHER_MAX_PAYLOAD)"),
    ],
)
def test_invalid_row_has_a_reason(columns: dict[str, Any], reason: str):
    refusal = notification(**columns).validation_error
    assert refusal is not None
    assert reason in refusal
    assert len(refusal) < 300
    assert refusal.isprintable()


def test_refused_row_has_no_recipients_and_no_payload():
    row = notification(payload=None, payload_bytes=MAX_BYTES + 1)
    assert (row.recipients, row.payload, row.workflow_key) == ([], "{}", "")


def test_long_workflow_key_is_cut_in_the_reason():
    refusal = notification(workflow_key="k" * 100_000, workflow_usable=False).validation_error
    assert refusal is not None
    assert len(refusal) < 300


def test_row_of_novus_maximum_size_is_valid():
    payload = '{"x": "' + "x" * (MAX_BYTES - 9) + '"}'
    assert len(payload) == MAX_BYTES
    assert notification(payload=payload).validation_error is None
    assert notification(payload=payload, overrides="{}").validation_error is not None


def test_f211_limit_of_the_payload_is_a_setting():
    payload = '{"x": "' + "x" * 600 * 1024 + '"}'
    row, limits = acquired_row(payload=payload), RowLimits(max_payload_bytes=1024 * 1024)
    assert parse_row(row, limits=limits).notification.validation_error is None
    refusal = parse_row(row, limits=RowLimits(max_payload_bytes=1024)).notification.validation_error
    assert refusal == f"payload and overrides take {len(payload)} bytes; the limit is 1024 (DISPATCHER_MAX_PAYLOAD)"


@pytest.mark.parametrize("severity", ['"none"', '"low"', '"medium"', '"high"', "null"])
def test_severity_that_novu_knows_is_valid(severity: str):
    assert notification(overrides=f'{{"severity": {severity}}}').validation_error is None


def test_severity_in_the_payload_is_the_producers_own():
    assert notification(payload='{"severity": "urgent"}').validation_error is None


def test_json_null_overrides_are_none():
    row = notification(overrides="null")
    assert (row.validation_error, row.overrides) == (None, None)
    assert row.body_hash == notification(overrides=None).body_hash


@given(st.sampled_from(['{"a": 1.10}', '{"b": 1e400, "a": 0.10000000000000000055511151231257827}', '{"ü": "\\ud83d"}']))
def test_texts_are_read_unchanged(text: str):
    row = notification(payload=text, overrides=text)
    assert (row.validation_error, row.payload, row.overrides) == (None, text, text)


def test_recipient_named_twice_is_sent_to_once_at_its_first_position():
    row = notification(recipients=["cy", "ana", "cy", "bo", "ana"])
    assert [(person.id, person.ordinal) for person in row.recipients] == [("cy", 0), ("ana", 1), ("bo", 2)]


@given(st.lists(st.sampled_from([str(uuid4()) for _ in range(5)]), min_size=1, max_size=20))
def test_recipients_are_distinct_and_keep_their_order(names: list[str]):
    people = notification(recipients=names).recipients
    assert [person.id for person in people] == list(dict.fromkeys(names))
    assert [person.ordinal for person in people] == list(range(len(people)))
    assert len({person.transaction_id for person in people}) == len(people)


def test_recipient_states_are_read_from_the_ledger():
    row = notification(
        recipients=["ana", "bo"],
        ledger=[["bo", "unknown", 2, ["b1-key", 17, "hash"], [20.5, 3600], "timeout", "no answer within 5 s"]],
    )
    ana, bo = row.recipients
    assert (ana.state, ana.epoch, ana.call_key, ana.error) == (RecipientState.PLANNED, 0, None, None)
    assert (bo.state, bo.epoch, bo.call_key, bo.call_ordinal) == (RecipientState.UNKNOWN, 2, "b1-key", 17)
    assert (bo.call_hash, bo.call_age, bo.first_call_age) == ("hash", 20.5, 3600)
    assert (bo.outcome, bo.error) == ("timeout", "no answer within 5 s")
    assert bo.transaction_id == transaction_id("b1", 7, 1, "bo")


def test_recipient_removed_from_the_row_stays_in_the_generation():
    row = notification(recipients=["ana"], ledger=[["bo", "accepted", 0, ["k", 0, "h"], [1, 1], "processed", None]])
    assert [(person.id, person.ordinal, person.state) for person in row.recipients] == [
        ("ana", 0, RecipientState.PLANNED),
        ("bo", 1, RecipientState.ACCEPTED),
    ]


def test_row_refused_after_a_send_keeps_its_ledger_state():
    row = notification(payload="[]", ledger=[["ana", "accepted", 0, ["k", 0, "h"], [1, 1], "processed", None]])
    assert row.validation_error is not None
    assert [person.state for person in row.recipients] == [RecipientState.ACCEPTED]
    row = notification(recipients=None, ledger=[["ana", "accepted", 0, ["k", 0, "h"], [1, 1], "processed", None]])
    assert [person.id for person in row.recipients] == ["ana"]


@pytest.mark.parametrize("state", list(RecipientState))
def test_every_state_of_the_ledger_can_be_read(state: RecipientState):
    assert (
        notification(ledger=[["ana", str(state), 0, [None, None, None], [None, None], None, None]]).recipients[0].state
        is state
    )


def test_generation_and_birth_change_the_transaction_id():
    ids = {notification(birth=b, generation=g).recipients[0].transaction_id for b in ("b1", "b2") for g in (1, 2)}
    assert len(ids) == 4
