"""Wake-ups only cause a search (P2), and a row that cannot be sent does not affect other rows (P7)."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.model.ledger import Ledger
from tests.model.ledger_rows import Row
from tests.model.model_outbox import Owner
from tests.model.novu import Answer
from tests.model.simulation import NODES, STEP, History
from tests.model.state_machine import PEOPLE, POISON

ROWS = st.lists(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True), min_size=1, max_size=4)
WAKE_UPS = st.lists(st.sampled_from(["wake", "sweep", "pass", "work"]), max_size=12)
CALM = settings(deadline=None, derandomize=True, max_examples=60)


def ending(rows: Sequence[Row], wake_ups: Sequence[str], seed: int = 0) -> dict[int, Any]:
    """Insert rows, wake the nodes so often and in this order, and return how it ends: each row's status and ledger."""
    loop = asyncio.new_event_loop()
    with capture_logs():
        history = History(loop, Owner(Ledger()), seed=seed)
        for row in rows:
            history.insert(row)
        for place, what in enumerate(wake_ups):
            node = NODES[(place + seed) % 2]
            match what:
                case "pass":
                    let_pass(history)
                case "wake":
                    history.wake(node)
                case "sweep":
                    history.sweep(node)
                case _:
                    work(history, node)
        history.come_to_rest(kill=False)
        history.end()
    loop.close()
    return {row.id: ledger_of(history, row) for row in history.ledger.rows.values()}


def let_pass(history: History) -> None:
    """Let time pass. A start takes seconds: a claimer has died before it, and a rescuer was refused it."""
    for waiting in list(history.waiting):
        history.start(waiting, "failed" if waiting.rescued else "crashed")
    history.let_pass(STEP)


def work(history: History, node: str) -> None:
    """Start what waits, and let a run take a step."""
    for waiting in history.waiting[:1]:
        history.start(waiting)
    for workflow in [workflow for workflow in history.workflows.values() if workflow.run is None][:1]:
        history.begin(workflow, node)
    for step in history.control.steps[:1]:
        history.play(step, Answer.ACCEPT)


def ledger_of(history: History, row: Row) -> Any:
    """Return what the ledger says about a row in the end."""
    head = history.ledger.heads[row.id]
    entries = history.ledger.entries_of(head)
    people = {name: (entry.transaction, entry.state, entry.epoch) for name, entry in entries.items()}
    effects = {name: history.novu.effects[entry.transaction] for name, entry in entries.items()}
    return row.status, head.generation, head.dead, people, effects


def good(rows: list[list[str]]) -> list[Row]:
    """Return sendable rows."""
    return [Row(row_id, f"birth-{row_id}", list(people)) for row_id, people in enumerate(rows, 1)]


@CALM
@given(ROWS, WAKE_UPS, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_wake_ups_in_any_order_and_number_give_the_same_ledger(
    rows: list[list[str]], wake_ups: list[str], seed: int, random: Any
):
    shuffled = wake_ups * 2
    random.shuffle(shuffled)
    calm = ending(good(rows), [])
    assert ending(good(rows), wake_ups, seed) == calm
    assert ending(good(rows), shuffled, seed + 1) == calm
    assert {status for status, *_ in calm.values()} == {"SENT"}


@CALM
@given(ROWS, st.lists(st.sampled_from(POISON), min_size=1, max_size=3), WAKE_UPS, st.integers(0, 1000))
def test_poison_row_does_not_change_other_rows_results(
    rows: list[list[str]], poison: list[dict[str, Any]], wake_ups: list[str], seed: int
):
    bad = [Row(100 + place, f"bad-{place}", list(PEOPLE)) for place in range(len(poison))]
    for row, columns in zip(bad, poison, strict=True):
        for name, value in columns.items():
            setattr(row, name, value)
    together = ending([*bad, *good(rows)], wake_ups, seed)
    alone = ending(good(rows), wake_ups, seed)
    assert {row_id: end for row_id, end in together.items() if row_id < 100} == alone
    assert all(status == "FAILED" and dead for row_id, (status, _, dead, *_) in together.items() if row_id >= 100)
