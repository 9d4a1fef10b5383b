"""Which calls are planned: no recipient twice, no settled recipient, no call above Novu's limits, and an unknown call
exactly as it was.
"""

from collections import Counter

import pytest
from hypothesis import given

from dispatcher.decisions.call_planning import (
    MAX_BULK_BYTES,
    MAX_BULK_EVENTS,
    MAX_PARALLEL_BYTES,
    MAX_PARALLEL_CALLS,
    MAX_SINGLE_CALLS,
    Call,
    Member,
    parallel_groups,
    plan_calls,
)
from dispatcher.decisions.identity import bulk_call_key, single_call_key
from dispatcher.models.call_result import TriggerEvent
from dispatcher.models.notification import Notification, RecipientState
from tests.decisions.sample_rows import SETTLED, histories, notification, recipient


def fresh(count: int, *, payload: str = "{}") -> Notification:
    """Return a notification with `count` recipients that were not called yet."""
    return notification(*(recipient(str(place), ordinal=place) for place in range(count)), payload=payload)


def names(call: Call) -> list[str]:
    """Return a call's recipients in order."""
    return [member.recipient.id for member in call.members]


def write_down(calls: list[Call], state: RecipientState) -> None:
    """Change the recipients as the ledger keeps them once their calls have left."""
    for call in calls:
        key = call.key
        for place, member in enumerate(call.members):
            member.recipient.call_key, member.recipient.call_ordinal = key, place
            member.recipient.state = state


def test_settled_rows_make_no_call():
    assert plan_calls([]) == []
    assert plan_calls([notification()]) == []


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, [1]),
        (MAX_SINGLE_CALLS, [1] * MAX_SINGLE_CALLS),
        (MAX_SINGLE_CALLS + 1, [MAX_SINGLE_CALLS + 1]),
        (MAX_BULK_EVENTS, [MAX_BULK_EVENTS]),
        (MAX_BULK_EVENTS + 1, [MAX_BULK_EVENTS, 1]),
        (250, [100, 100, 50]),
    ],
)
def test_few_recipients_get_a_call_each_and_many_share(count: int, sizes: list[int]):
    calls = plan_calls([fresh(count)])
    assert [len(call.members) for call in calls] == sizes
    assert [name for call in calls for name in names(call)] == [str(place) for place in range(count)]


def test_recipients_of_several_notifications_share_a_call():
    rows = [notification(recipient(f"r{row}"), id=row) for row in range(12)]
    [call] = plan_calls(rows)
    assert names(call) == [f"r{row}" for row in range(12)]


def test_call_is_cut_before_it_gets_too_large():
    large = '{"x": "' + "x" * (MAX_BULK_BYTES // 30) + '"}'
    calls = plan_calls([fresh(70, payload=large)])
    assert [len(call.members) for call in calls] == [29, 29, 12]
    assert all(sum(member.size_bytes for member in call.members) <= MAX_BULK_BYTES for call in calls)


def test_f211_few_large_calls_are_in_flight_at_once():
    large = '{"x": "' + "x" * 16_000_000 + '"}'
    groups = list(parallel_groups(plan_calls([fresh(8, payload=large)]), None))
    assert [len(group) for group in groups] == [3, 3, 2]
    huge = '{"x": "' + "x" * MAX_PARALLEL_BYTES + '"}'
    assert [len(group) for group in parallel_groups(plan_calls([fresh(2, payload=huge)]), None)] == [1, 1]


def test_largest_bulk_calls_are_in_flight_together():
    large = '{"x": "' + "x" * (MAX_BULK_BYTES // 30) + '"}'
    calls = plan_calls([fresh(12 * 29, payload=large)])
    assert [len(group) for group in parallel_groups(calls, None)] == [MAX_PARALLEL_CALLS, 2]


def test_overrides_count_towards_the_size():
    half = '{"x": "' + "x" * (MAX_BULK_BYTES // 8) + '"}'
    row = fresh(11, payload=half)
    row.overrides = half
    assert [len(call.members) for call in plan_calls([row])] == [1] * 11


def test_call_size_is_counted_in_bytes():
    rows = fresh(70, payload='{"x": "' + "ж" * (MAX_BULK_BYTES // 60) + '"}')
    assert [len(call.members) for call in plan_calls([rows])] == [29, 29, 12]


@pytest.mark.parametrize(
    ("most_tokens", "count", "sizes"),
    [
        (None, 60, [60]),
        (None, 105, [100] + [1] * 5),
        (300, 99, [1] * 99),
        (300, 100, [100]),
        (300, 250, [100, 100] + [1] * 50),
        (99, 250, [1] * 250),
    ],
)
def test_bulk_call_is_used_only_if_it_saves_tokens(most_tokens: int | None, count: int, sizes: list[int]):
    assert [len(call.members) for call in plan_calls([fresh(count)], most_tokens)] == sizes


@pytest.mark.parametrize(
    ("most_tokens", "sizes"),
    [(None, [10, 10, 5]), (1000, [10, 10, 5]), (300, [3] * 8 + [1]), (5, [1] * 25)],
)
def test_parallel_calls_cost_at_most_novus_burst(most_tokens: int | None, sizes: list[int]):
    calls = plan_calls([fresh(2500)])
    together = list(parallel_groups(calls, most_tokens))
    assert [len(chunk) for chunk in together] == sizes
    assert [call for chunk in together for call in chunk] == calls


def test_single_calls_are_sent_ten_at_a_time():
    assert [len(chunk) for chunk in parallel_groups(plan_calls([fresh(25)], 7), 7)] == [7, 7, 7, 4]
    assert [len(chunk) for chunk in parallel_groups(plan_calls([fresh(25)], 300), 300)] == [10, 10, 5]


def test_row_above_the_call_limit_gets_its_own_call():
    row = fresh(11, payload='{"x": "' + "x" * (MAX_BULK_BYTES + 1) + '"}')
    assert [len(call.members) for call in plan_calls([row])] == [1] * 11


def test_event_has_payload_and_overrides_as_stored():
    row = notification(recipient("ana"), payload='{"a": 1.10}', overrides='{"fcm": {}}')
    [call] = plan_calls([row])
    assert call.members[0].event == TriggerEvent("welcome", "ana", "tx-ana", '{"a": 1.10}', '{"fcm": {}}')


def test_key_of_a_single_call_is_the_recipients_and_of_a_bulk_call_the_members():
    row = fresh(12)
    single = Call((Member(row, row.recipients[0]),))
    assert single.key == single_call_key("tx-0", 0)
    [bulk] = plan_calls([row])
    assert bulk.key == bulk_call_key((f"tx-{place}", 0) for place in range(12))


@pytest.mark.parametrize("state", [RecipientState.SENDING, RecipientState.UNKNOWN])
@pytest.mark.parametrize("count", [3, 130])
def test_unknown_call_is_repeated_unchanged(state: RecipientState, count: int):
    row = fresh(count)
    before = plan_calls([row])
    shapes = [(call.key, names(call)) for call in before]
    write_down(before, state)
    row.recipients.reverse()  # the order in which they are read must not matter
    again = plan_calls([row])
    assert sorted((call.key, names(call)) for call in again) == sorted(shapes)
    assert all(call.key == member.recipient.call_key for call in again for member in call.members)


def test_unknown_calls_come_before_new_ones_and_do_not_mix():
    row = fresh(60)
    unknown = plan_calls([notification(*row.recipients[40:])])
    write_down(unknown, RecipientState.UNKNOWN)
    again = plan_calls([row])
    assert [names(call) for call in again] == [[str(n) for n in range(40, 60)], [str(n) for n in range(40)]]


def test_call_without_one_member_has_another_key():
    row = fresh(15)
    [before] = plan_calls([row])
    key = before.key
    write_down([before], RecipientState.UNKNOWN)
    row.recipients[3].state = RecipientState.ACCEPTED
    [again] = plan_calls([row])
    assert len(again.members) == 14
    assert again.key != key


def test_call_keeps_its_key_while_its_outcomes_are_applied():
    row = fresh(15)
    [call] = plan_calls([row])
    key = call.key
    row.recipients[4].epoch += 1
    assert call.key == key
    [again] = plan_calls([row])
    assert again.key != key


def test_call_without_effect_is_planned_again():
    row = fresh(15)
    before = plan_calls([row])
    write_down(before, RecipientState.PLANNED)
    [again] = plan_calls([row])
    assert again.key == before[0].key  # same members, same order: the same request


def test_stored_error_repeats_the_members_under_a_new_key():
    row = fresh(15)
    [before] = plan_calls([row])
    key = before.key
    write_down([before], RecipientState.UNKNOWN)
    for person in row.recipients:
        person.epoch += 1
    [again] = plan_calls([row])
    assert names(again) == [str(n) for n in range(15)]
    assert again.key != key


@given(histories())
def test_each_unsettled_recipient_is_planned_once_and_no_settled_one(rows: list[Notification]):
    planned = Counter((m.notification.id, m.recipient.id) for call in plan_calls(rows) for m in call.members)
    wanted = {(row.id, person.id) for row in rows for person in row.recipients if person.state not in SETTLED}
    assert set(planned) == wanted
    assert set(planned.values()) <= {1}


@given(histories())
def test_every_call_fits_novus_limits(rows: list[Notification]):
    calls = plan_calls(rows)
    assert all(1 <= len(call.members) <= MAX_BULK_EVENTS for call in calls)
    assert len({call.key for call in calls}) == len(calls)


@given(histories())
def test_planning_twice_gives_the_same_requests(rows: list[Notification]):
    once, twice = plan_calls(rows), plan_calls(rows)
    assert [(c.key, [m.event for m in c.members]) for c in once] == [
        (c.key, [m.event for m in c.members]) for c in twice
    ]


@given(histories())
def test_calls_of_unknown_outcome_are_repeated_in_the_same_requests(rows: list[Notification]):
    first = plan_calls(rows)
    write_down(first, RecipientState.SENDING)
    again = plan_calls(rows)
    assert Counter((c.key, *names(c)) for c in again) == Counter((c.key, *names(c)) for c in first)
