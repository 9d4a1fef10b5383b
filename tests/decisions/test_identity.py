"""Identities are promises to Novu that outlive a release: the literals below must never change."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.identity import body_hash, bulk_call_key, digest, single_call_key, transaction_id

PARTS = st.tuples(st.text(max_size=12), st.integers(0, 2**63 - 1), st.integers(1, 10_000), st.text(max_size=40))
MEMBERS = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.integers(0, 9)), min_size=2, max_size=8)
UUID = "6fa459ea-ee8a-4ca4-894e-db77e160355e"


def test_identities_are_the_same_in_every_release():
    assert transaction_id("0123456789ab", 42, 1, UUID) == "n1-896231ce2db087e84c42948085f1d158"
    assert single_call_key("n1-abc", 0) == "n1-abc:0"
    assert bulk_call_key([("n1-abc", 0), ("n1-def", 2)]) == "b1-8a231355020746d249b69af8e494d127"
    assert body_hash("welcome", '{"a": 1}', None) == "0f9adbe4cf87b33c4c5933b78f80b46b"
    assert digest("ab", "c") == "430fb1b4ac43316eca81fab27a1930ab"


@given(PARTS, PARTS)
def test_transaction_id_differs_when_one_part_differs(one: tuple[str, int, int, str], two: tuple[str, int, int, str]):
    assert (transaction_id(*one) == transaction_id(*two)) == (one == two)


def test_each_part_of_a_transaction_id_counts():
    same = transaction_id("birth", 1, 1, "ana")
    others = [("other", 1, 1, "ana"), ("birth", 2, 1, "ana"), ("birth", 1, 2, "ana"), ("birth", 1, 1, "bo")]
    assert len({same, *(transaction_id(*parts) for parts in others)}) == 5


def test_parts_of_a_transaction_id_are_separated():
    assert transaction_id("b", 11, 1, "ana") != transaction_id("b", 1, 11, "ana")
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("1:a", "") != digest("", "1:a")
    assert digest("a") != digest("a", "")


@given(MEMBERS, st.randoms(use_true_random=False))
def test_bulk_key_depends_on_order(members: list[tuple[str, int]], random: Random):
    shuffled = list(members)
    random.shuffle(shuffled)
    assert (bulk_call_key(shuffled) == bulk_call_key(members)) == (shuffled == members)


@given(MEMBERS, st.data())
def test_bulk_key_depends_on_every_member_and_epoch(members: list[tuple[str, int]], data: st.DataObject):
    place = data.draw(st.integers(0, len(members) - 1))
    name, epoch = members[place]
    without = members[:place] + members[place + 1 :]
    newer = [*members[:place], (name, epoch + 1), *members[place + 1 :]]
    renamed = [*members[:place], (name + "x", epoch), *members[place + 1 :]]
    assert len({bulk_call_key(m) for m in (members, without, newer, renamed, [*members, ("one more", 0)])}) == 5


@given(PARTS, st.integers(0, 2**31))
def test_keys_fit_novus_length_limit(parts: tuple[str, int, int, str], epoch: int):
    transaction = transaction_id(*parts)
    assert transaction.isascii()
    assert len(single_call_key(transaction, epoch)) < 255
    assert len(bulk_call_key([(transaction, epoch)] * 100)) < 255


def test_keys_of_single_and_bulk_calls_never_collide():
    assert single_call_key(transaction_id("b", 1, 1, "ana"), 0).startswith("n1-")
    assert bulk_call_key([("n1-x", 0)]).startswith("b1-")


def test_body_hash_depends_on_every_sent_field():
    bodies = [("w", "{}", None), ("v", "{}", None), ("w", '{"a": 1}', None), ("w", "{}", "{}"), ("w", "{} ", None)]
    assert len({body_hash(*body) for body in bodies}) == 5


def test_lone_surrogate_can_be_hashed():
    assert transaction_id("b", 1, 1, "\ud800") != transaction_id("b", 1, 1, "\udc00")


@given(st.lists(st.tuples(PARTS, st.integers(0, 50)), min_size=2, max_size=8, unique=True))
def test_calls_never_share_a_key(calls: list[tuple[tuple[str, int, int, str], int]]):
    """The key differs if installation and creation (`birth`), row, generation, recipient or epoch differ."""
    keys = {single_call_key(transaction_id(*parts), epoch) for parts, epoch in calls}
    assert len(keys) == len(calls)


@given(MEMBERS, st.integers(1, 30))
def test_bulk_call_has_another_key_in_every_epoch(members: list[tuple[str, int]], epochs: int):
    keys = {bulk_call_key([(name, epoch + grown) for name, epoch in members]) for grown in range(epochs)}
    assert len(keys) == epochs
