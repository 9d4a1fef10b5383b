"""The demo's verdict, with every kind of mismatch planted."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from dispatcher.devstack.demo.driver import accepted_count
from dispatcher.devstack.demo.report import Spread, compare, expected_recipients, percentiles
from dispatcher.devstack.demo.results import DemoRow, Results, milliseconds_between
from dispatcher.devstack.demo.scenario import SCENARIO
from dispatcher.devstack.fake_novu.ledger import LoggedRequest
from dispatcher.devstack.fake_novu.process import Effect

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def perfect() -> Results:
    """Return what a faultless demo would find."""
    rows: list[DemoRow] = []
    effects: list[Effect] = []
    transactions: dict[tuple[int, str], str] = {}
    requests: list[LoggedRequest] = []
    for step in SCENARIO:
        for _ in range(step.rows):
            names = tuple(str(uuid4()) for _ in range(step.recipients))
            row = DemoRow(
                step,
                len(rows) + 1,
                "0",
                names[: accepted_count(step)],
                names[accepted_count(step) :],
                step.status,
                step.outcome,
            )
            row.due_at, row.claimed_at = NOON, NOON + timedelta(milliseconds=2)
            row.settled_at = NOON + timedelta(milliseconds=20)
            rows.append(row)
            if step.outcome:
                transactions |= {(row.id, name): f"{row.id}-{name}" for name in names}
                requests.append(request([transactions[row.id, name] for name in names]))
            effects += [effect(f"{row.id}-{name}", name) for name in expected_recipients(row)]
    return Results(rows, transactions, effects, requests)


def effect(transaction: str, subscriber: str, accepted: int = 1) -> Effect:
    return Effect("env", transaction, subscriber, "default-in-app", accepted, accepted, 0.0, 0.0)


def request(transactions: list[str | None]) -> LoggedRequest:
    at = NOON.timestamp() + 0.010
    return LoggedRequest(
        seq=1,
        started_at=at,
        ended_at=at,
        method="POST",
        path="/v1/events/trigger",
        environment=None,
        idempotency_key=None,
        transaction_ids=transactions,
        subscribers=[],
        workflow_keys=[],
        tenants=[],
        body_hash="",
        status=201,
        replayed=False,
        effects=1,
    )


def row_of(evidence: Results, key: str) -> DemoRow:
    return next(row for row in evidence.rows if row.step.key == key)


def test_expected_results_have_no_mismatch() -> None:
    report = compare(perfect())
    assert report.mismatches == []
    hop = {"claimed": 2.0, "requested": 8.0, "settled": 10.0, "total": 20.0}
    assert report.latency_ms["burst"] == {name: Spread(each, each, each) for name, each in hop.items()}
    assert report.burst_rows_per_second == pytest.approx(25_000)


def sent_though_refused(evidence: Results) -> Results:
    row = row_of(evidence, "refused")
    return replace(evidence, effects=[*evidence.effects, effect(f"{row.id}-{row.refused[0]}", row.refused[0])])


def sent_though_retracted(evidence: Results) -> Results:
    row = row_of(evidence, "retracted")
    return replace(evidence, effects=[*evidence.effects, effect("n1-x", row.accepted[0])])


def sent_to_a_stranger(evidence: Results) -> Results:
    return replace(evidence, effects=[*evidence.effects, effect("n1-x", "stranger")])


def sent_twice(evidence: Results) -> Results:
    first, *others = evidence.effects
    return replace(evidence, effects=[replace(first, accepted=2), *others])


def sent_twice_under_two_ids(evidence: Results) -> Results:
    return replace(evidence, effects=[*evidence.effects, replace(evidence.effects[-1], transaction_id="other")])


def never_sent(evidence: Results) -> Results:
    return replace(evidence, effects=evidence.effects[:-1])


def sent_under_another_id(evidence: Results) -> Results:
    *others, last = evidence.effects
    return replace(evidence, effects=[*others, replace(last, transaction_id="other")])


def never_written(evidence: Results) -> Results:
    return replace(evidence, rows=[row for row in evidence.rows if row.step.key != "draft"])


def another_status(evidence: Results) -> Results:
    row_of(evidence, "burst").status = "FAILED"
    return evidence


def another_outcome(evidence: Results) -> Results:
    row_of(evidence, "refused").outcome = "FAILED"
    return evidence


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (sent_though_refused, "refused: Novu accepted .* should not have been sent"),
        (sent_though_retracted, "retracted: Novu accepted n1-x .* should not have been sent"),
        (sent_to_a_stranger, "no step: Novu accepted n1-x for stranger"),
        (sent_twice, "scheduled: Novu accepted .* 2 times instead of once"),
        (sent_twice_under_two_ids, "burst: Novu accepted other .* should not have been sent"),
        (never_sent, "burst: Novu accepted .* 0 times instead of once"),
        (sent_under_another_id, "burst: Novu accepted .* 0 times instead of once"),
        (never_written, "draft: 0 rows were written, not 1"),
        (another_status, r"burst: 1 of 500 ended as FAILED \(SENT\) instead of SENT"),
        (another_outcome, r"refused: 1 of 1 ended as FAILED instead of FAILED \(PARTIAL\)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_planted_mismatch_is_named(plant: Callable[[Results], Results], words: str) -> None:
    mismatches = compare(plant(perfect())).mismatches
    assert any(re.match(words, each) for each in mismatches), mismatches


def test_missing_results_are_a_mismatch_for_every_step() -> None:
    report = compare(Results([]))
    assert len(report.mismatches) == len(SCENARIO)
    assert report.latency_ms == {"one_at_a_time": {}, "burst": {}}
    assert report.burst_rows_per_second is None


def test_spread_takes_the_nearest_rank() -> None:
    assert percentiles([]) is None
    assert percentiles([7.04]) == Spread(7.0, 7.0, 7.0)
    assert percentiles(range(100, 0, -1)) == Spread(50, 95, 100)


def test_claim_that_began_before_the_commit_it_saw_counts_as_0() -> None:
    assert milliseconds_between(NOON, NOON - timedelta(milliseconds=1)) == 0
    assert milliseconds_between(None, NOON) is None
