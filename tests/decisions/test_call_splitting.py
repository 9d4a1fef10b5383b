"""How a refused call is split: every member keeps a call, and few calls find one bad member."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.decisions.call_splitting import (
    count_refused_alone,
    is_hopeless,
    is_refused_together,
    smaller_parts,
    split_call,
)
from dispatcher.decisions.classification import apply_result, call_refusal, classify
from dispatcher.models.call_result import AnswerClass
from dispatcher.models.notification import RecipientState
from tests.decisions.answers_of_novu import error
from tests.decisions.sample_rows import notification, recipient

ENTERPRISES = st.integers(1, 100).flatmap(
    lambda count: st.lists(st.integers(1, count).map(str), min_size=2, max_size=100)
)
BIG = b'{"message": "Validation Error", "errors": {"general": {"messages": ["events.3.to must be a string"]}}}'


def call_for(enterprises: list[str]) -> Call:
    """Return a call with one row for each entry, of that enterprise."""
    return Call(
        tuple(
            Member(row, row.recipients[0])
            for row in (
                notification(recipient(f"r{place}"), id=place, enterprise=enterprise)
                for place, enterprise in enumerate(enterprises)
            )
        )
    )


def ids(call: Call) -> list[int]:
    """Return the rows of a call."""
    return [member.notification.id for member in call.members]


def send_all(call: Call, bad: set[int], *, named: bool, honest: bool = True) -> tuple[int, set[int]]:
    """Return how many calls follow, and which rows are refused alone. Novu refuses every call with one of `bad`."""
    open_calls, extra, refused = [call], -1, set[int]()
    while open_calls:
        current = open_calls.pop()
        extra += 1
        hit = [place for place, row in enumerate(ids(current)) if row in bad]
        if not hit:
            continue
        if len(current.members) == 1:
            refused.add(ids(current)[0])
            continue
        open_calls += split_call(current, (hit if honest else [0]) if named else (), None)
    return extra, refused


@given(st.integers(2, 100), st.data())
def test_one_bad_member_of_its_enterprise_is_found_in_two_calls_for_each_halving(count: int, data: st.DataObject):
    bad = data.draw(st.integers(0, count - 1))
    extra, refused = send_all(call_for(["a"] * count), {bad}, named=False)
    assert refused == {bad}
    assert extra <= 2 * (count - 1).bit_length() <= 14


@given(ENTERPRISES, st.data())
def test_one_bad_member_costs_few_calls_and_others_at_most_two_more(enterprises: list[str], data: st.DataObject):
    """However many enterprises share the call: at most ten parts, then at most ten of one enterprise each."""
    bad = data.draw(st.integers(0, len(enterprises) - 1))
    call = call_for(enterprises)
    extra, refused = send_all(call, {bad}, named=False)
    assert refused == {bad}
    assert extra <= 11 + 10 + 2 * (enterprises.count(enterprises[bad]) - 1).bit_length()
    refused_calls, waits = [call], 0
    while any(enterprises[row] != enterprises[bad] for part in refused_calls for row in ids(part)):
        waits += 1
        parts = [part for each in refused_calls for part in split_call(each, (), None)]
        refused_calls = [part for part in parts if bad in ids(part)]
    assert waits <= 2


@pytest.mark.parametrize(("named", "honest"), [(False, True), (True, True), (True, False)])
@given(enterprises=ENTERPRISES, data=st.data())
def test_any_bad_members_are_found_alone_in_less_than_200_calls(
    *, named: bool, honest: bool, enterprises: list[str], data: st.DataObject
):
    bad = data.draw(st.sets(st.integers(0, len(enterprises) - 1)))
    extra, refused = send_all(call_for(enterprises), bad, named=named, honest=honest)
    assert refused == bad
    assert extra <= 2 * len(enterprises) - 2 < 200


@given(ENTERPRISES)
def test_parts_have_whole_enterprises_and_one_enterprise_is_halved(enterprises: list[str]):
    members = list(call_for(enterprises).members)
    parts = smaller_parts(members)
    owners = [{member.notification.enterprise for member in part} for part in parts]
    assert sorted(member.notification.id for part in parts for member in part) == list(range(len(members)))
    if len(set(enterprises)) > 1:
        assert sum(map(len, owners)) == len(set(enterprises)), "no enterprise is in two parts"
    else:
        assert sorted(map(len, parts)) == [len(members) // 2, -(-len(members) // 2)]


@pytest.mark.parametrize(("count", "parts"), [(2, 2), (10, 10), (11, 4), (37, 7), (99, 11), (100, 10)])
def test_many_enterprises_are_separate_after_the_second_refusal(count: int, parts: int):
    first = smaller_parts(list(call_for([str(number) for number in range(count)]).members))
    assert len(first) == parts
    assert max(len(part) for part in first) <= 10


def test_named_members_get_a_call_each_and_the_others_one():
    parts = split_call(call_for(["a"] * 12), (3, 7), None)
    assert [ids(part) for part in parts] == [[3], [7], [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]]


def test_position_that_the_call_does_not_have_names_nobody():
    assert [len(part.members) for part in split_call(call_for(["a"] * 12), (12, 99), None)] == [6, 6]


def test_under_a_rate_limit_members_are_sent_alone():
    assert [ids(part) for part in split_call(call_for(["a"] * 12), (), 300)] == [[place] for place in range(12)]


def test_parts_have_other_keys_than_the_refused_call():
    call = call_for(["a"] * 12)
    results = classify(422, {}, error(422, "bad"), 12, bulk=True)
    before = call.key
    for member, result in zip(call.members, results, strict=True):
        apply_result(member.recipient, result)
    parts = split_call(call, (), None)
    assert before not in [part.key for part in parts]
    assert {member.recipient.state for member in call.members} == {RecipientState.PLANNED}
    assert {member.recipient.epoch for member in call.members} == {1}, "Novu may store the refusal under the old key"


def test_member_whose_earlier_call_may_be_accepted_is_not_in_a_part():
    call = call_for(["a"] * 12)
    call.members[5].recipient.state = RecipientState.UNKNOWN
    assert sorted(row for part in split_call(call, (5,), None) for row in ids(part)) == [*range(5), *range(6, 12)]


def test_row_of_which_100_recipients_were_refused_alone_and_none_accepted_is_hopeless():
    row = notification(*(recipient(str(place), ordinal=place) for place in range(300)))
    members = [Member(row, person) for person in row.recipients]
    rest = Call(tuple(members[200:]))
    count_refused_alone([Call((member,)) for member in members[:99]])
    assert not is_hopeless(rest)
    count_refused_alone([Call((members[99],)), rest])
    assert is_hopeless(rest)
    other = call_for(["a"] * 3)
    assert not is_hopeless(Call((*rest.members, *other.members))), "another row is in the same call"
    row.recipients[150].state = RecipientState.ACCEPTED
    assert not is_hopeless(rest)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_refusal_of_a_bulk_call_is_no_verdict_and_of_a_single_call_it_is(status: int):
    together = classify(status, {}, error(status, "bad"), 3, bulk=True)
    [alone] = classify(status, {}, error(status, "bad"), 1, bulk=False)
    assert is_refused_together(together)
    assert not is_refused_together([alone])
    assert alone.answer_class is AnswerClass.REFUSED


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (BIG, (3,)),
        (error(422, ["events.0.to must be a string", "events[2].to x", "events.2.payload x"]), (0, 2)),
        (error(400, "events must contain no more than 100 elements"), ()),
        (error(422, "events.5.to must be a string"), ()),
        (error(422, "events.99999999999999999999999999"), ()),
        (b"<html>events.1.</html>", ()),
        (b"[]", ()),
        (b'{"message": null, "errors": [1]}', ()),
        (b'{"message": {"a": 1}, "errors": {"a": null, "b": {"messages": 4}}}', ()),
    ],
)
def test_named_members_are_read_from_the_answers_sentences(body: bytes, named: tuple[int, ...]):
    assert classify(422, {}, body, 5, bulk=True)[0].culprits == named


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_account_error_without_confirmation_is_the_calls_own(status: int):
    [alone] = classify(status, {}, error(status, "blocked"), 1, bulk=False)
    own, shared = call_refusal(alone, 1), call_refusal(alone, 2)
    assert (own.answer_class, own.detail) == (AnswerClass.RETRY, f"HTTP {status}: blocked")
    assert (shared.answer_class, shared.new_epoch) == (AnswerClass.REFUSED_TOGETHER, True)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_novus_own_words_are_suspected_first_and_a_foreign_page_last(status: int):
    [own] = classify(status, {}, error(status, "no"), 1, bulk=False)
    [foreign] = classify(status, {}, b"<html>no</html>", 1, bulk=False)
    proxy = "a proxy or firewall before Novu"
    assert own.from_novu
    assert own.suspected.index(proxy) > 0
    assert not foreign.from_novu
    assert foreign.suspected[0] == proxy
    assert own.suspected[-1] == foreign.suspected[-1] == "the content of this call"
