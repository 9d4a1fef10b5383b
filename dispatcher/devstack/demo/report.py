"""Compares the results with the scenario, and computes the latencies. Pure: no I/O, no clock."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher.devstack.demo.results import DemoRow, Results, milliseconds_between
from dispatcher.devstack.demo.scenario import SCENARIO, Step

HOPS = {
    "claimed": "due → claimed",
    "requested": "claimed → Novu's request",
    "settled": "Novu's request → settled",
    "total": "due → settled",
}


@dataclass(frozen=True)
class Spread:
    """Percentiles of durations in milliseconds."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class Report:
    """The result of a demo. It succeeded if `mismatches` is empty."""

    mismatches: list[str]
    steps: list[dict[str, object]]
    latency_ms: dict[str, dict[str, Spread]]
    burst_rows_per_second: float | None
    effects: dict[str, int]


def compare(results: Results, scenario: Sequence[Step] = SCENARIO) -> Report:
    """Return the differences between the results and the scenario, with latencies and counts."""
    found = {step.key: [row for row in results.rows if row.step.key == step.key] for step in scenario}
    mismatches = [*row_mismatches(found, scenario), *effect_mismatches(results)]
    bursts = [rows for step in scenario if step.rows > 1 and not step.apart for rows in [found[step.key]]]
    singles = [row for row in results.rows if row.step.rows == 1 or row.step.apart]
    return Report(
        mismatches=mismatches,
        steps=[step_document(step, found[step.key]) for step in scenario],
        latency_ms={
            "one_at_a_time": hop_latencies(singles, results),
            "burst": hop_latencies([row for rows in bursts for row in rows], results),
        },
        burst_rows_per_second=next((rows_per_second(rows) for rows in bursts), None),
        effects={
            "expected": sum(len(expected_recipients(row)) for row in results.rows),
            "accepted": sum(effect.accepted for effect in results.effects),
            "more_than_once": sum(effect.accepted > 1 for effect in results.effects),
        },
    )


def expected_recipients(row: DemoRow) -> tuple[str, ...]:
    """Return the recipients that Novu must have accepted exactly once for this row."""
    return row.accepted[: row.step.accepted]


def row_mismatches(found: dict[str, list[DemoRow]], scenario: Sequence[Step]) -> Iterable[str]:
    """Yield a sentence for every step with missing rows, or with rows that ended otherwise than expected."""
    for step in scenario:
        rows = found[step.key]
        if len(rows) != step.rows:
            yield f"{step.key}: {len(rows)} rows were written, not {step.rows}"
        others = Counter((row.status, row.outcome) for row in rows)
        del others[(step.status, step.outcome)]
        for (status, outcome), count in others.items():
            error = next((row.error for row in rows if (row.status, row.outcome) == (status, outcome)), None)
            why = f": {error}" if error else ""
            yield (
                f"{step.key}: {count} of {len(rows)} ended as {final_text(status, outcome)}"
                f" instead of {final_text(step.status, step.outcome)}{why}"
            )


def effect_mismatches(results: Results) -> Iterable[str]:
    """Yield a sentence for every notification that Novu accepted unexpectedly, more than once, or not at all."""
    wanted = {
        (results.transaction_ids.get((row.id, recipient)), recipient): row
        for row in results.rows
        for recipient in expected_recipients(row)
    }
    subscribers = {name: row for row in results.rows for name in (*row.accepted, *row.refused)}
    accepted = Counter[tuple[str | None, str]]()
    for effect in results.effects:
        accepted[effect.transaction_id, effect.subscriber] += effect.accepted
    for pair, row in wanted.items():
        if accepted[pair] != 1:
            yield f"{row.step.key}: Novu accepted {pair[0]} for {pair[1]} {accepted[pair]} times instead of once"
    for pair in accepted.keys() - wanted.keys():
        key = subscribers[pair[1]].step.key if pair[1] in subscribers else "no step"
        yield f"{key}: Novu accepted {pair[0]} for {pair[1]}, which should not have been sent"


def final_text(status: str, outcome: str | None) -> str:
    """Return the stored status for display, with the outcome if it differs."""
    return status if outcome in {None, status} else f"{status} ({outcome})"


def step_document(step: Step, rows: Sequence[DemoRow]) -> dict[str, object]:
    """Return the result of a step for the JSON document."""
    times = [row.milliseconds for row in rows if row.milliseconds is not None]
    return {
        "step": step.key,
        "what": step.title,
        "rows": len(rows),
        "expected": {"status": step.status, "outcome": step.outcome},
        "statuses": dict(Counter(row.status for row in rows)),
        "outcomes": dict(Counter(row.outcome for row in rows if row.outcome)),
        "due_to_settled_ms": percentiles(times),
    }


def hop_latencies(rows: Iterable[DemoRow], results: Results) -> dict[str, Spread]:
    """Return the latencies of each hop, over the rows that reached Novu and are settled."""
    arrivals = first_requests(results)
    ends: dict[str, Callable[[DemoRow, datetime], float | None]] = {
        "claimed": lambda row, _: milliseconds_between(row.due_at, row.claimed_at),
        "requested": lambda row, arrived: milliseconds_between(row.claimed_at, arrived),
        "settled": lambda row, arrived: milliseconds_between(arrived, row.settled_at),
        "total": lambda row, _: row.milliseconds,
    }
    complete = [(row, arrivals[row.id]) for row in rows if row.id in arrivals and row.settled_at]
    times = {name: [hop(row, arrived) for row, arrived in complete] for name, hop in ends.items()}
    spreads = {name: percentiles([each for each in found if each is not None]) for name, found in times.items()}
    return {name: found for name, found in spreads.items() if found is not None}


def first_requests(results: Results) -> dict[int, datetime]:
    """Return the time of the first request to Novu for each notification id."""
    owners = {transaction: id_ for (id_, _), transaction in results.transaction_ids.items()}
    arrivals: dict[int, datetime] = {}
    for request in results.requests:
        for transaction in request.transaction_ids:
            if transaction in owners:
                arrivals.setdefault(owners[transaction], datetime.fromtimestamp(request.started_at, UTC))
    return arrivals


def rows_per_second(rows: Sequence[DemoRow]) -> float | None:
    """Return rows per second, from the first due time to the last settled row; None unless all are settled."""
    due = [row.due_at for row in rows if row.due_at]
    settled = [row.settled_at for row in rows if row.settled_at]
    milliseconds = milliseconds_between(min(due), max(settled)) if due and len(settled) == len(rows) else None
    return len(rows) / milliseconds * 1000 if milliseconds else None


def percentiles(milliseconds: Sequence[float]) -> Spread | None:
    """Return median, 95th percentile (nearest rank) and maximum of durations in milliseconds; None if empty."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    p50, p95 = (ordered[math.ceil(len(ordered) * part) - 1] for part in (0.50, 0.95))
    return Spread(round(p50, 1), round(p95, 1), round(ordered[-1], 1))
