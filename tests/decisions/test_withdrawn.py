"""Recipients that the owner removed: whether they are called, and what they count for."""

import json

import pytest

from dispatcher.decisions.call_planning import Member, plan_calls
from dispatcher.decisions.final_status import decide_status
from dispatcher.decisions.unknown_outcomes import apply_lookup
from dispatcher.decisions.validation import parse_row
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, RecipientState, Status
from tests.decisions.sample_rows import acquired_row

NO_RUN = CallResult(AnswerClass.RETRY, "no_run")


def entry(name: str, state: str, outcome: str | None = None) -> list[object]:
    """Return one recipient of the ledger as acquire.sql does."""
    return [name, state, 0, ["key", 0, "hash"], [100.0, 100.0], outcome, None, 1, f"tx-{name}"]


def row_of(recipients: list[str] | None, *ledger: list[object]) -> Notification:
    columns = acquired_row(recipients=recipients or [], ledger=list(ledger))
    if recipients is None:
        columns |= {"recipients": None, "recipient_count": 10**6}
    return parse_row(columns).notification


@pytest.mark.parametrize(
    ("state", "withdrawn"),
    [("planned", True), ("refused", True), ("accepted", False), ("sending", False), ("unknown", False)],
)
def test_f195_removed_recipient_is_withdrawn_unless_novu_may_have_accepted_it(state: str, *, withdrawn: bool):
    row = row_of(["ana"], entry("ana", "accepted"), entry("bo", state))
    [_, bo] = row.recipients
    assert (bo.removed, bo.is_withdrawn, bo.unsaved) == (True, withdrawn, withdrawn)
    assert [member.recipient for call in plan_calls([row]) for member in call.members] == (
        [bo] if state in ("sending", "unknown") else []
    )


def test_f195_withdrawn_recipient_does_not_count():
    final = decide_status(row_of(["ana"], entry("ana", "accepted"), entry("bo", "planned", "http_503")), None)
    assert final.status is Status.SENT
    assert json.loads(final.error_details)["totalRecipients"] == 1


def test_f195_removed_recipient_without_a_run_at_novu_is_withdrawn():
    row = row_of(["ana"], entry("ana", "accepted"), entry("bo", "unknown", "connection_lost"))
    apply_lookup(Member(row, row.recipients[1]), NO_RUN)
    assert row.recipients[1].is_withdrawn


def test_f195_recipient_that_is_named_again_is_called():
    row = row_of(["ana", "bo"], entry("ana", "accepted"), entry("bo", "cancelled", "withdrawn"))
    assert row.recipients[1].state is RecipientState.PLANNED
    assert len(plan_calls([row])) == 1


def test_f195_recipients_that_were_not_read_are_not_withdrawn():
    row = row_of(None, entry("ana", "accepted"), entry("bo", "planned"))
    assert [recipient.is_withdrawn for recipient in row.recipients] == [False, False]


def test_f195_recipient_cancelled_by_a_retraction_is_not_called():
    row = row_of(["ana"], entry("ana", "cancelled", "stopped"))
    assert plan_calls([row]) == []
    assert decide_status(row, None).status is Status.FAILED
