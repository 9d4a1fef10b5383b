"""Calls with an unknown outcome: repeated only as they were, else looked up, once a run can have appeared."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.call_planning import Call, Member, plan_calls, unknown_calls
from dispatcher.decisions.identity import single_call_key
from dispatcher.decisions.unknown_outcomes import (
    CALL_TIMEOUT_SECONDS,
    KEY_TTL_SECONDS,
    NOVU_VISIBILITY_SECONDS,
    NextStep,
    apply_lookup,
    calls_needing_lookup,
    key_unusable,
    next_step,
    seconds_until_safe,
)
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, Recipient, RecipientState
from tests.decisions.sample_rows import SETTLED, histories, notification, recipient

Change = Callable[[Notification], None]
NO_RUN = CallResult(AnswerClass.RETRY, "not_found")
FOUND = CallResult(AnswerClass.ACCEPTED, "found")
NO_ANSWER = CallResult(AnswerClass.UNKNOWN, "look_up_failed", "HTTP 502")


def called(
    count: int = 1, *, age: float = 20.0, first: float = 20.0, state: RecipientState = RecipientState.UNKNOWN
) -> Notification:
    """Return a notification whose recipients were called, `age` seconds ago."""
    row = notification(*(recipient(str(place), ordinal=place) for place in range(count)), body_hash="hash")
    for call in plan_calls([row]):
        key = call.key
        for place, member in enumerate(call.members):
            person = member.recipient
            person.state, person.call_key, person.call_ordinal, person.call_hash = state, key, place, "hash"
            person.call_age, person.first_call_age = age, first
    return row


def step(row: Notification, *, honoured: bool = True) -> NextStep:
    """Return what comes next for the row's only call."""
    [call] = unknown_calls([row])
    return next_step(call, idempotency_on=honoured)


def forget_a_member(row: Notification) -> None:
    row.recipients[3].state = RecipientState.ACCEPTED


def grow_an_epoch(row: Notification) -> None:
    row.recipients[3].epoch += 1


def edit_the_body(row: Notification) -> None:
    row.body_hash = "another"


def reuse_the_key(row: Notification) -> None:
    row.recipients[3].outcome = "key_reused"


def grow_old(row: Notification) -> None:
    row.recipients[3].first_call_age = KEY_TTL_SECONDS


UNREPEATABLE = [forget_a_member, grow_an_epoch, edit_the_body, reuse_the_key, grow_old]


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("age", [0, KEY_TTL_SECONDS - 1])
def test_answered_call_is_repeated_unchanged_at_any_time(count: int, age: float):
    row = called(count, age=age, first=age)
    assert step(row) is NextStep.REPEAT
    assert calls_needing_lookup([row], idempotency_on=True) == []


def leave_unanswered(row: Notification) -> None:
    row.recipients[3].state = RecipientState.SENDING


def time_out(row: Notification) -> None:
    row.recipients[3].outcome = "timeout"


@pytest.mark.parametrize("change", [leave_unanswered, time_out])
def test_call_novu_may_still_work_on_is_not_repeated(change: Change):
    row = called(40, age=CALL_TIMEOUT_SECONDS - 1)
    change(row)
    assert step(row) is NextStep.WAIT
    assert seconds_until_safe(unknown_calls([row])[0], idempotency_on=True) == 1
    assert seconds_until_safe(unknown_calls([row])[0], idempotency_on=False) == NOVU_VISIBILITY_SECONDS + 1
    for person in row.recipients:
        person.call_age = CALL_TIMEOUT_SECONDS
    assert step(row) is NextStep.REPEAT
    assert step(row, honoured=False) is NextStep.WAIT
    for person in row.recipients:
        person.call_age = CALL_TIMEOUT_SECONDS + NOVU_VISIBILITY_SECONDS
    assert step(row, honoured=False) is NextStep.LOOK_UP


@pytest.mark.parametrize("change", UNREPEATABLE)
def test_call_that_cannot_be_repeated_is_looked_up_later(change: Change):
    row = called(40)
    change(row)
    assert step(row) is NextStep.LOOK_UP
    for person in row.recipients:
        person.call_age = NOVU_VISIBILITY_SECONDS - 4
    assert step(row) is NextStep.WAIT
    assert seconds_until_safe(unknown_calls([row])[0], idempotency_on=True) == 4


def test_calls_without_idempotency_are_looked_up_before_a_repeat():
    assert step(called(), honoured=False) is NextStep.LOOK_UP
    assert step(called(age=3), honoured=False) is NextStep.WAIT


@given(rows=histories(), honoured=st.booleans())
def test_each_unknown_call_is_repeated_or_looked_up(*, rows: list[Notification], honoured: bool):
    to_look_up = [
        member.recipient for call in calls_needing_lookup(rows, idempotency_on=honoured) for member in call.members
    ]
    assert all(person.state not in (*SETTLED, RecipientState.PLANNED) for person in to_look_up)
    for call in plan_calls(rows):
        for member in call.members:
            surely_safe = not member.is_unknown or (honoured and call.key == member.recipient.call_key)
            assert surely_safe or any(member.recipient is person for person in to_look_up)


@given(histories())
def test_every_unknown_call_without_idempotency_needs_a_look_up(rows: list[Notification]):
    to_look_up = calls_needing_lookup(rows, idempotency_on=False)
    assert sum(len(call.members) for call in to_look_up) == sum(
        member.is_unknown for call in plan_calls(rows) for member in call.members
    )


def the(row: Notification) -> tuple[Member, Recipient]:
    return Member(row, row.recipients[0]), row.recipients[0]


def test_found_run_means_accepted():
    member, person = the(called())
    apply_lookup(member, FOUND)
    assert (person.state, person.outcome, person.error) == (RecipientState.ACCEPTED, "found", None)


def test_missing_run_is_sent_again_under_the_free_key():
    row = called()
    member, person = the(row)
    person.epoch = 1  # Novu stored a 500 under the first
    apply_lookup(member, NO_RUN)
    assert (person.state, person.epoch) == (RecipientState.PLANNED, 1)
    [call] = plan_calls([row])
    assert call.key == single_call_key("tx-0", 1)


def test_f172_missing_run_proves_nothing_while_novu_may_lag():
    row = called(age=20)
    member, person = the(row)
    apply_lookup(member, NO_RUN, 300)
    assert (person.state, person.throttled, person.retry_after) == (RecipientState.UNKNOWN, True, 30)
    person.call_age = 290
    apply_lookup(member, NO_RUN, 300)
    assert (person.state, person.retry_after) == (RecipientState.UNKNOWN, 10)
    person.call_age, person.retry_after = 300, 0
    apply_lookup(member, NO_RUN, 300)
    assert person.state is RecipientState.PLANNED


@pytest.mark.parametrize("change", [edit_the_body, reuse_the_key, grow_old])
def test_missing_run_under_a_used_key_gets_another_key(change: Change):
    row = called(40)
    before = {person.call_key for person in row.recipients}
    change(row)
    for person in row.recipients:
        apply_lookup(Member(row, person), NO_RUN)
    assert {call.key for call in plan_calls([row])}.isdisjoint(before)


def test_key_stays_the_same_without_idempotency():
    row = called()
    member, person = the(row)
    apply_lookup(member, NO_RUN)
    assert not key_unusable(member)
    [call] = plan_calls([row])
    assert call.key == person.call_key


@pytest.mark.parametrize("answer", [NO_ANSWER, CallResult(AnswerClass.ACCOUNT_ERROR, "http_401")])
def test_look_up_without_answer_stays_unknown_and_waits(answer: CallResult):
    row = called()
    member, person = the(row)
    apply_lookup(member, answer)
    assert person.state is RecipientState.UNKNOWN
    assert person.retry_after > 0
    assert plan_calls([row]) == []
    assert unknown_calls([row]) == []


def test_retry_after_of_a_look_up_is_kept():
    member, person = the(called())
    apply_lookup(member, CallResult(AnswerClass.UNKNOWN, "look_up_failed", "slow", retry_after=60.0))
    assert person.retry_after == 60


def test_call_age_is_that_of_its_youngest_member():
    row = called(12)
    row.recipients[5].call_age = 1.0
    call = Call(tuple(Member(row, person) for person in row.recipients))
    assert seconds_until_safe(call, idempotency_on=False) == NOVU_VISIBILITY_SECONDS - 1
