"""The log of what happened, for tests and benchmarks to compare with: effects, runs of the worker, and requests.

An *effect* is one trigger event for one subscriber that the API handler accepted (queued). A bulk call of 100 accepted
events with one subscriber each has 100 effects; a replayed answer, a refused event and a run of the worker have none.
A topic counts as one subscriber named `topic:<key>`, a broadcast as `*`, a recipient without an id as the empty name.
Health checks are not logged.

Limits: 600,000 (transactionId, subscriber) pairs; 400,000 requests with at most 1,200,000 events; 64 MiB in at most
20,000 bodies. The oldest entries are removed first, and `summary` counts the removed ones.
"""

from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

MAX_PAIRS = 600_000
MAX_REQUESTS = 400_000
MAX_LOGGED_EVENTS = 1_200_000
MAX_BODIES = 20_000
MAX_BODY_BYTES = 64 * 1024 * 1024

Pair = tuple[str, str, str]
"""(environment id, transactionId, subscriber)"""


class PairCounts:
    """How often the API accepted a pair, the worker ran it, and it was cancelled or its messages were removed."""

    __slots__ = ("accepted", "first_at", "last_at", "runs", "taken_back", "workflow")

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        self.accepted = 0
        self.runs = 0
        self.taken_back = 0
        self.first_at = 0.0
        self.last_at = 0.0


class LoggedRequest(NamedTuple):
    """One answered request. Times are epoch seconds; `seq` is its number by arrival; `effects` are its own alone.

    `ended_at`: when it was answered or, if faults are set, when the client closed its connection without an answer.
    """

    seq: int
    started_at: float
    ended_at: float
    method: str
    path: str
    environment: str | None
    idempotency_key: str | None
    transaction_ids: Sequence[str | None]
    subscribers: Sequence[str]
    workflow_keys: Sequence[str | None]
    tenants: Sequence[str]
    body_hash: str
    status: int
    replayed: bool
    effects: int
    fault: str | None = None


class EffectLog:
    """Counts effects and runs, and keeps the request log. Every write is cheap, because benchmarks measure it too."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove everything; sequence numbers begin at 1 again."""
        self.pairs: dict[Pair, PairCounts] = {}
        self.log: deque[LoggedRequest] = deque()
        self.bodies: dict[int, bytes] = {}
        self.ends: dict[int, float] = {}
        self.statuses: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.arrived = self._logged_events = self._body_bytes = 0

    def next_sequence(self) -> int:
        """Return the number of a request that has just arrived."""
        self.arrived += 1
        return self.arrived

    def accepted(self, pair: Pair, workflow: str, at: float) -> None:
        """Count an effect: the API handler queued a trigger for this pair at `at` (epoch seconds)."""
        tally = self._counts_of(pair, workflow)
        if tally.accepted == 0:
            tally.first_at = at
        elif tally.accepted == 1:
            self.counts["duplicate_pairs"] += 1
        tally.accepted += 1
        tally.last_at = at
        self.counts["effects"] += 1

    def delivered(self, pair: Pair, workflow: str) -> None:
        """Count a run: the worker created a notification for this pair."""
        self._counts_of(pair, workflow).runs += 1
        self.counts["runs"] += 1

    def cancelled(self, pair: Pair, workflow: str) -> None:
        """Count that a waiting run of this pair was cancelled, or that its messages were removed."""
        self._counts_of(pair, workflow).taken_back += 1

    def _counts_of(self, pair: Pair, workflow: str) -> PairCounts:
        tally = self.pairs.get(pair)
        if tally is None:
            tally = self.pairs[pair] = PairCounts(workflow)
            if len(self.pairs) > MAX_PAIRS:
                del self.pairs[next(iter(self.pairs))]
                self.counts["pairs_dropped"] += 1
        return tally

    def record(self, request: LoggedRequest, body: bytes) -> None:
        """Append an answered request, and keep its body while the limits allow it."""
        self.log.append(request)
        self.statuses[request.status] += 1
        self.counts["replays"] += request.replayed
        self._logged_events += len(request.transaction_ids)
        self._keep_body(request.seq, body)
        while len(self.log) > MAX_REQUESTS or self._logged_events > MAX_LOGGED_EVENTS:
            self._logged_events -= len(self.log.popleft().transaction_ids)
            self.counts["requests_dropped"] += 1

    def ended(self, seq: int, at: float) -> None:
        """Log when a request ended for its client."""
        self.ends[seq] = at
        if len(self.ends) > MAX_REQUESTS:
            del self.ends[next(iter(self.ends))]

    def _keep_body(self, seq: int, body: bytes) -> None:
        self.bodies[seq] = body
        self._body_bytes += len(body)
        while self._body_bytes > MAX_BODY_BYTES or len(self.bodies) > MAX_BODIES:
            self._body_bytes -= len(self.bodies.pop(next(iter(self.bodies))))

    def requests(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return a slice of the log in the order of the answers; `offset` counts removed entries too."""
        start = max(0, offset - self.counts["requests_dropped"])
        entries = islice(self.log, start, start + limit)
        return [entry._asdict() | {"ended_at": self.ends.get(entry.seq, entry.ended_at)} for entry in entries]

    def effects(
        self, offset: int, limit: int, *, transaction_id: str | None, subscriber: str | None, least: int
    ) -> list[dict[str, Any]]:
        """Return a slice of the pairs accepted at least `least` times; 0 includes those that only the worker knows."""
        chosen = (
            (pair, tally)
            for pair, tally in self.pairs.items()
            if tally.accepted >= least and transaction_id in (None, pair[1]) and subscriber in (None, pair[2])
        )
        return [_row(pair, tally) for pair, tally in islice(chosen, offset, offset + limit)]

    def summary(self) -> dict[str, Any]:
        """Return counts only; they are updated at every write, so this is cheap."""
        names = ("effects", "duplicate_pairs", "runs", "replays", "pairs_dropped", "requests_dropped")
        counts = {name: self.counts[name] for name in names}
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        return {"requests": sum(self.statuses.values()), "pairs": len(self.pairs), **counts, "statuses": statuses}


def _row(pair: Pair, tally: PairCounts) -> dict[str, Any]:
    environment, transaction_id, subscriber = pair
    names = {"environment": environment, "transaction_id": transaction_id, "subscriber": subscriber}
    counts = {"workflow": tally.workflow, "accepted": tally.accepted, "runs": tally.runs}
    counts["taken_back"] = tally.taken_back
    return names | counts | {"first_at": tally.first_at, "last_at": tally.last_at}
