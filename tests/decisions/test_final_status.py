"""The final status of a row. Dashboards of XNovu read `error_details`, so its five keys keep names and shapes."""

import json
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.final_status import MAX_RESULTS, decide_status, status_of
from dispatcher.models.notification import Notification, RecipientState
from tests.decisions.sample_rows import STATES, notification, recipient

MINUTE = timedelta(minutes=1)


def details(row: Notification, wait: timedelta | None = None) -> dict[str, Any]:
    """Return the `error_details` of a conclusion."""
    return json.loads(decide_status(row, wait).error_details)


@given(st.lists(STATES, max_size=12))
def test_final_status_depends_on_recipient_states_alone(states: list[RecipientState]):
    status = status_of([recipient(str(place), state) for place, state in enumerate(states)])
    accepted = states.count(RecipientState.ACCEPTED)
    if accepted == 0:
        assert status == "FAILED"
    else:
        assert status == ("SENT" if accepted == len(states) else "PARTIAL")


def test_row_without_recipients_is_not_sent():
    assert status_of([]) == "FAILED"


def test_sent_row_has_xnovus_keys_and_no_error():
    row = notification(
        recipient("ana", RecipientState.ACCEPTED), recipient("bo", RecipientState.ACCEPTED), generation=2, attempts=3
    )
    conclusion = decide_status(row, None)
    assert (conclusion.status, conclusion.first_transaction_id, conclusion.reason) == ("SENT", "tx-ana", None)
    assert json.loads(conclusion.error_details) == {
        "novu_transaction_ids": ["tx-ana", "tx-bo"],
        "results": [
            {"recipientId": "ana", "success": True, "transactionId": "tx-ana"},
            {"recipientId": "bo", "success": True, "transactionId": "tx-bo"},
        ],
        "successCount": 2,
        "totalRecipients": 2,
        "outcome": "SENT",
        "generation": 2,
        "attempts": 3,
    }


def test_one_refused_of_three_is_partial_with_a_reason():
    row = notification(
        recipient("ana", RecipientState.REFUSED, error="HTTP 422: workflow_not_found"),
        recipient("bo", RecipientState.ACCEPTED),
        recipient("cy", RecipientState.ACCEPTED),
    )
    conclusion = decide_status(row, None)
    assert (conclusion.status, conclusion.first_transaction_id) == ("PARTIAL", "tx-bo")
    assert conclusion.reason == "HTTP 422: workflow_not_found"
    found = json.loads(conclusion.error_details)
    assert (found["outcome"], found["successCount"], found["totalRecipients"]) == ("PARTIAL", 2, 3)
    assert found["novu_transaction_ids"] == ["tx-bo", "tx-cy"]
    assert found["results"][0] == {"recipientId": "ana", "success": False, "error": "HTTP 422: workflow_not_found"}
    assert found["error"] == "HTTP 422: workflow_not_found"
    assert found["dead_letter"] is True


def test_several_failures_are_counted_behind_the_first_one():
    row = notification(*(recipient(name, RecipientState.UNKNOWN, error=f"{name} timed out") for name in ("ana", "bo")))
    assert details(row)["error"] == "ana timed out (2 of 2 recipients not accepted)"


def test_failure_without_text_gets_a_reason():
    assert details(notification(recipient()))["error"] == "the run ended without an answer from Novu"
    assert details(notification(recipient()))["results"] == [
        {"recipientId": "ana", "success": False, "error": "not sent"}
    ]


@pytest.mark.parametrize("state", [RecipientState.UNKNOWN, RecipientState.SENDING])
def test_unknown_outcome_is_shown_as_unknown_and_not_counted_as_sent(state: RecipientState):
    found = details(notification(recipient(state=state, error="no answer within 5 s")))
    assert found["results"] == [
        {"recipientId": "ana", "success": False, "error": "no answer within 5 s", "outcome": "unknown"}
    ]
    assert (found["successCount"], found["outcome"], found["novu_transaction_ids"]) == (0, "FAILED", [])


def test_refused_row_has_its_reason_and_counts_earlier_sends():
    row = notification(validation_error="recipients are empty")
    assert decide_status(row, None).reason == "recipients are empty"
    assert details(row)["totalRecipients"] == 0
    row = notification(
        recipient("ana", RecipientState.ACCEPTED), recipient("bo"), validation_error="payload is not a JSON object"
    )
    assert (decide_status(row, None).status, decide_status(row, None).reason) == (
        "PARTIAL",
        "payload is not a JSON object",
    )


def test_only_a_row_without_a_next_run_is_a_dead_letter():
    row = notification(recipient(error="HTTP 503: "))
    assert (decide_status(row, MINUTE).retry_in, details(row, MINUTE)["dead_letter"]) == (MINUTE, False)
    assert (decide_status(row, None).retry_in, details(row, None)["dead_letter"]) == (None, True)


@given(st.lists(STATES, min_size=1, max_size=20), st.none() | st.just(MINUTE))
def test_recipient_counts_and_lists_agree(states: list[RecipientState], wait: timedelta | None):
    row = notification(*(recipient(str(place), state) for place, state in enumerate(states)))
    found = details(row, wait)
    successes = [entry for entry in found["results"] if entry["success"]]
    assert (
        found["successCount"]
        == len(successes)
        == len(found["novu_transaction_ids"])
        == states.count(RecipientState.ACCEPTED)
    )
    assert found["totalRecipients"] == len(found["results"]) == len(states)
    assert ("error" in found) == ("dead_letter" in found) == (found["outcome"] != "SENT")
    assert all(set(entry) == {"recipientId", "success", "transactionId"} for entry in successes)


def test_many_recipients_are_all_counted_and_partly_listed():
    crowd = [recipient(str(place), RecipientState.ACCEPTED) for place in range(MAX_RESULTS + 500)]
    found = details(notification(*crowd))
    assert (found["successCount"], found["totalRecipients"]) == (MAX_RESULTS + 500, MAX_RESULTS + 500)
    assert len(found["results"]) == len(found["novu_transaction_ids"]) == MAX_RESULTS
    assert found["outcome"] == "SENT"
    assert len(decide_status(notification(*crowd), None).error_details) < 500_000


def test_first_transaction_is_found_among_many_recipients():
    crowd = [recipient(str(place), RecipientState.REFUSED) for place in range(MAX_RESULTS)]
    row = notification(*crowd, recipient("last", RecipientState.ACCEPTED))
    assert decide_status(row, None).first_transaction_id == "tx-last"
    assert decide_status(row, None).status == "PARTIAL"


@given(st.lists(STATES, max_size=12), st.randoms(use_true_random=False), st.none() | st.just(MINUTE))
def test_recipient_order_does_not_change_the_status(
    states: list[RecipientState], random: Random, wait: timedelta | None
):
    people = [recipient(str(place), state) for place, state in enumerate(states)]
    shuffled = list(people)
    random.shuffle(shuffled)
    one, two = decide_status(notification(*people), wait), decide_status(notification(*shuffled), wait)
    assert (one.status, one.retry_in) == (two.status, two.retry_in)
    assert json.loads(one.error_details)["successCount"] == json.loads(two.error_details)["successCount"]


@given(st.lists(STATES, max_size=12), st.integers(1, 9), st.integers(1, 9), st.text(max_size=20))
def test_only_the_ledger_changes_a_status(states: list[RecipientState], attempts: int, generation: int, error: str):
    people = [recipient(str(place), state, error=error, epoch=attempts) for place, state in enumerate(states)]
    row = notification(*people, attempts=attempts, generation=generation)
    assert decide_status(row, None).status == status_of(people)
