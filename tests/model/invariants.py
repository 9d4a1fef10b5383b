"""The invariants of every step of a history (P1, P4, P5, P6, promises 2 to 4), and of its end (P3)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from dispatcher.decisions.backoff import RETRY_BACKOFF
from dispatcher.models.notification import RunLimits
from tests.model.ledger import SETTLED, Ledger
from tests.model.ledger_rows import Entry, Head, Row
from tests.model.novu import Novu

POLICY = RunLimits(lease=timedelta(seconds=50), max_runs=3, retry_horizon=timedelta(seconds=870))
"""How patient a history is. Time moves in steps of 100 s, and nothing here is near a multiple of that, so that real
milliseconds change nothing."""

OURS = {
    ("PENDING", "PROCESSING"), ("FAILED", "PROCESSING"), ("PARTIAL", "PROCESSING"), ("PROCESSING", "PENDING"),
    ("PROCESSING", "SENT"), ("PROCESSING", "PARTIAL"), ("PROCESSING", "FAILED"),
    ("PENDING", "SENT"), ("PENDING", "PARTIAL"), ("PENDING", "FAILED"),
}  # fmt: skip
"""The transitions that are ours to make."""
SAME_FENCE = (
    "record_calls", "settle", "renew_leases", "end_reading", "uncount_rescue", "adopt_orphans", "put_statuses_back",
)  # fmt: skip
COUNTING = ("claim", "rescue", "uncount_rescue", "release", "release_unstarted", "release_node")
"""Statements that leave the fence as it is; statements that may change the count of runs."""


@dataclass
class Seen:
    """One notification as it was after the last step."""

    row: Row | None
    head: Head | None
    entries: dict[str, Entry]


class Audit:
    """Looks at every change."""

    def __init__(self, ledger: Ledger, novu: Novu) -> None:
        self._ledger = ledger
        self._novu = novu
        self._seen: dict[int, Seen] = {}
        self._written: Counter[tuple[str, str]] = Counter()
        self._acquired_at: dict[int, float] = {}

    def owner_wrote(self, row_id: int) -> None:
        """Look at what the owner did: the ledger is not theirs to change."""
        before = self._seen.get(row_id, Seen(None, None, {}))
        now = self._seen[row_id] = self._look(row_id)
        assert (now.head, now.entries) == (before.head, before.entries)

    def we_wrote(self, what: str, fences: dict[int, int] | None = None) -> None:
        """Look at what one statement of ours did; `fences`: it may only change rows that have these."""
        for row_id in self._ledger.rows.keys() | self._ledger.heads.keys():
            before, now = self._seen.get(row_id, Seen(None, None, {})), self._look(row_id)
            if before != now:
                if fences is not None:  # P4
                    assert before.head is not None, f"{what} made a head"
                    assert before.head.fence == fences.get(row_id), f"{what} changed row {row_id} with an old fence"
                self._check_head(what, before, now)
                self._check_status(what, before, now)
                self._check_entries(what, before, now)
                self._seen[row_id] = now
        self.novu_was_called()

    def novu_was_called(self) -> None:
        """No call that was not written down; no second effect; nothing accepted here that is not accepted there."""
        for call, times in self._novu.calls.items():
            assert times <= self._written[call], f"{call} was called {times} times"
        # Also without keys: in a history Novu shows each run in time, so that no look-up misses it.
        assert all(times == 1 for times in self._novu.effects.values()), self._novu.effects
        for entry in self._entries():
            assert entry.state != "accepted" or self._novu.effects[entry.transaction], f"{entry} has no effect"

    def at_rest(self) -> None:
        """Every due row has a final status, no row is leased, and acceptance by Novu is in the ledger."""
        assert not self._ledger.units()
        for row in self._ledger.rows.values():
            waits = row.status == "PENDING" or (row.status == "PROCESSING" and not self._is_left(row.id))
            assert not row.eligible(self._ledger.now) or not waits, row
        for head in self._ledger.heads.values():
            assert head.lease is None, head
        for entry in self._entries():
            if self._novu.effects[
                entry.transaction
            ]:  # a row taken from us in mid-call keeps what was written before it
                assert entry.state in ("accepted", "unknown", "sending"), entry

    def _is_left(self, row_id: int) -> bool:
        """Whether a status was put back before in this generation."""
        head = self._ledger.heads.get(row_id)
        return head is not None and head.settled and head.put_back_in == head.generation

    def _check_head(self, what: str, before: Seen, now: Seen) -> None:
        head, was = now.head, before.head
        assert head is not None
        if was is None:
            assert (head.generation, head.fence) == (1, 1)
            return
        if what == "acquire" and head != was:
            self._acquired_at[head.id] = self._ledger.now
        if head != was:
            assert head.fence == was.fence + (what not in SAME_FENCE), f"{what}: fence {was.fence}, then {head.fence}"
        assert what in COUNTING or head.attempts == was.attempts, what
        deleted = what == "rescue" and now.row is None and not was.settled
        assert abs(head.attempts - was.attempts) <= 1 or head.attempts == 1 or deleted
        again = before.row is not None and before.row.status == "PENDING" and was.settled
        grown = (what == "claim" and again) or deleted
        assert head.generation == was.generation + grown, f"{what}: generation {was.generation}, then {head.generation}"
        if head.next_attempt is not None and head.next_attempt != was.next_attempt:
            wait = RETRY_BACKOFF.delay(head.attempts).total_seconds()
            assert head.attempts < POLICY.max_runs
            assert abs(head.next_attempt - self._ledger.now - wait) < 1
            # The age with which a run decides is the one that it read with its rows, however long it was paused since.
            age = self._acquired_at[head.id] - head.first_claimed
            assert age + wait < POLICY.retry_horizon.total_seconds() + 1

    def _check_status(self, what: str, before: Seen, now: Seen) -> None:
        assert (before.row is None) == (now.row is None), f"{what} made or removed a row"
        if before.row is None or now.row is None or before.row.status == now.row.status:
            return
        if what == "put_statuses_back":
            assert before.head is not None
            assert now.head is not None
            assert (before.head.settled, now.row.status) == (True, before.head.outcome)
            assert before.head.put_back_in != now.head.put_back_in == now.head.generation
            return
        assert (before.row.status, now.row.status) in OURS, f"{what}: {before.row.status} to {now.row.status}"
        if what == "claim":
            assert before.row.eligible(self._ledger.now)
        if what == "settle":  # P1
            states = [entry.state for entry in now.entries.values() if entry.outcome != "withdrawn"]
            assert (now.row.status == "SENT") <= (bool(states) and set(states) == {"accepted"}), states

    def _check_entries(self, what: str, before: Seen, now: Seen) -> None:
        for name, entry in now.entries.items():
            was = before.entries.get(name) if self._same_generation(before, now) else None
            if was is not None:
                withdrawn = "withdrawn" in (entry.outcome, was.outcome) and was.state != "accepted"
                assert was.state not in SETTLED or entry == was or withdrawn, f"{what} changed a settled recipient"
                assert entry.transaction == was.transaction
                assert entry.epoch >= was.epoch
            attempts_before = was.attempts if was else 0
            if entry.attempts < attempts_before:  # a call that Novu never worked on is not counted
                assert what == "settle"
                assert entry.attempts == attempts_before - 1
            if entry.attempts > attempts_before:
                self._written[entry.transaction, str(entry.key)] += 1
                assert what == "record_calls"
                assert now.row is not None
                assert now.head is not None
                assert now.row.status == "PROCESSING"
                assert now.row.eligible(self._ledger.now)
                assert now.head.attempts <= POLICY.max_runs, "a call past the last run"

    def _same_generation(self, before: Seen, now: Seen) -> bool:
        return before.head is not None and now.head is not None and before.head.generation == now.head.generation

    def _entries(self) -> Iterable[Entry]:
        return (entry for entries in self._ledger.entries.values() for entry in entries.values())

    def _look(self, row_id: int) -> Seen:
        row, head = self._ledger.rows.get(row_id), self._ledger.heads.get(row_id)
        entries = self._ledger.entries_of(head) if head else {}
        return Seen(
            replace(row) if row else None,
            replace(head) if head else None,
            {name: replace(entry) for name, entry in entries.items()},
        )
