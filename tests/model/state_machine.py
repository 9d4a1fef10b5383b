"""The state machine: what can happen, in any order. Run in memory and on PostgreSQL by the tests that import it.

`DISPATCHER_MODEL_EXAMPLES=5000` tries that many histories with a random seed and prints the blob that repeats a
failure; without it the same few are tried each time, so that a run cannot fail by luck.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dispatcher.models.claims import ClaimLimits
from tests.model.ledger import Ledger
from tests.model.ledger_rows import Row
from tests.model.model_outbox import Owner
from tests.model.novu import Answer
from tests.model.simulation import NODES, STEP, History, Waiting
from tests.model.step_control import Step, Workflow

Thing = TypeVar("Thing")
PEOPLE = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
CROWD = [f"00000000-0000-4000-8000-00000000001{number}" for number in range(6)]
"""Two rows of so many recipients share a bulk call."""
TENANTS = [f"00000000-0000-4000-9000-00000000000{number}" for number in range(2)]
POISON: list[dict[str, Any]] = [
    {"payload": "[1]"},
    {"recipients": []},
    {"recipients": [PEOPLE[0], None]},
    {"has_workflow": False},
]
ROWS = st.fixed_dictionaries(
    {
        "recipients": st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3) | st.just(CROWD),
        "enterprise": st.none() | st.sampled_from(TENANTS),
        "due": st.sampled_from([None, None, None, -30, 130]),
        "poison": st.sampled_from([{}, {}, {}, *POISON]),
    }
)
CHANGES: list[dict[str, Any]] = [
    {"status": "PENDING"}, {"status": "PENDING"}, {"status": "PENDING"}, {"status": "RETRACTED"},
    {"status": "PROCESSING"}, {"status": "SENT"}, {"status": "FAILED"}, {"published": False}, {"published": True},
    {"deactivated": True}, {"deactivated": False}, {"payload": '{"title": "Stairs"}'}, {"recipients": PEOPLE[:1]},
    {"recipients": PEOPLE}, {"due": -30}, {"due": 130}, {"due": None},
]  # fmt: skip
CLOSING: list[dict[str, Any]] = [{"published": False}, {"deactivated": True}, {"status": "RETRACTED"}]
MOVES = st.lists(st.tuples(st.integers(0, 7), st.sampled_from([*[Answer.ACCEPT] * 8, *Answer])), max_size=6)
"""The steps between two disturbances: which of the possible ones, and Novu's answer to it."""
WHICH = st.integers(0, 7)
MANY = os.environ.get("DISPATCHER_MODEL_EXAMPLES")


def how_many(examples: int) -> settings:
    """Return how a machine is run: `examples` histories, or as many as the environment says."""
    return settings(
        deadline=None,
        stateful_step_count=40,
        max_examples=int(MANY or examples),
        derandomize=not MANY,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def one(things: Sequence[Thing], which: int) -> Thing:
    """Return one of several things."""
    return things[which % len(things)]


class Machine(RuleBasedStateMachine):
    """Rules only; History does what they say and Audit looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.births = 0
        self.begun = False

    def open_owner(self) -> Owner:
        """Return the application of a new history."""
        return Owner(Ledger())

    def open_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop in which the history runs."""
        return asyncio.new_event_loop()

    def close_loop(self) -> None:
        """End the loop."""
        self.history.control.loop.close()

    @initialize(
        idempotency_on=st.sampled_from([True, True, True, False]),
        seed=st.integers(0, 2**16),
        rows=st.lists(ROWS, min_size=1, max_size=3),
    )
    def begin(self, *, idempotency_on: bool, seed: int, rows: list[dict[str, Any]]) -> None:
        self.drawn = random.Random(seed)
        self.history = History(self.open_loop(), self.open_owner(), idempotency_on=idempotency_on, seed=seed)
        self.begun = True
        for row_id, columns in enumerate(rows, 1):
            self._insert(row_id, columns)

    # Steps without a disturbance

    @rule(moves=MOVES)
    def go_on(self, moves: list[tuple[int, Answer]]) -> None:
        for place, answer in moves:
            self._move(place, answer)

    @rule(moves=MOVES)
    def wake_and_go_on(self, moves: list[tuple[int, Answer]]) -> None:
        self.history.wake(NODES[0])
        self.go_on(moves)

    def _move(self, place: int, answer: Answer) -> None:
        history = self.history
        can_happen = [*history.control.steps, *history.waiting, *self._idle()] or [NODES[place % 2]]
        match can_happen[place % len(can_happen)]:
            case Step() as step:
                history.play(step, answer)
            case Waiting() as waiting:
                history.start(waiting)
            case Workflow() as workflow:
                history.begin(workflow, NODES[place % 2])
            case node:
                history.wake(node)

    # The owner

    @rule(
        row_id=st.integers(1, 4), columns=ROWS, status=st.sampled_from(["PENDING", "PENDING", "PENDING", "PROCESSING"])
    )
    def insert(self, row_id: int, columns: dict[str, Any], status: str) -> None:
        if row_id not in self.history.ledger.rows:
            self._insert(row_id, {**columns, "status": status})

    @precondition(lambda self: self.history.ledger.rows)
    @rule(which=WHICH, change=st.sampled_from(CHANGES), moves=MOVES)
    def change(self, which: int, change: dict[str, Any], moves: list[tuple[int, Answer]]) -> None:
        if change.get("due") is not None:
            change = {"due": self.history.ledger.now + change["due"]}
        self.history.change(one(sorted(self.history.ledger.rows), which), **change)
        self.go_on(moves)

    @precondition(lambda self: self.history.ledger.rows)
    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        self.history.delete(one(sorted(self.history.ledger.rows), which))

    def _insert(self, row_id: int, columns: dict[str, Any]) -> None:
        self.births += 1
        values = {**columns, **columns["poison"]}
        if values["due"] is not None:
            values["due"] += self.history.ledger.now
        del values["poison"]
        self.history.insert(Row(row_id, f"birth-{self.births}", **values))

    # Wake-ups, starts, sweeps, time

    # Without a seed the histories are drawn from the arguments' names, too: a renamed argument plays other histories.
    @rule(node=st.sampled_from(NODES), times=st.integers(1, 2), limit=st.sampled_from([1000, 2]), solo=st.booleans())
    def wake(self, node: str, times: int, limit: int, *, solo: bool) -> None:
        for _ in range(times):
            self.history.wake(node, ClaimLimits(limit, 1000, batch_size=1 if solo else 2))

    @precondition(lambda self: self.history.waiting)
    @rule(which=WHICH, fate=st.sampled_from(["failed", "answer lost", "crashed"]))
    def start_badly(self, which: int, fate: str) -> None:
        self.history.start(one(self.history.waiting, which), fate)

    @rule(
        steps=st.sampled_from([1, 1, 1, 1, 3, 800]),
        node=st.sampled_from([*NODES, None]),
        sweep=st.booleans(),
        moves=MOVES,
    )
    def let_pass(self, steps: int, node: str | None, moves: list[tuple[int, Answer]], *, sweep: bool) -> None:
        self.history.let_pass(steps * STEP)
        if sweep and node:
            self.history.sweep(node)
        elif sweep:
            self.history.sweep_together()
        self.go_on(moves)

    @rule(node=st.sampled_from(NODES))
    def sweep(self, node: str) -> None:
        self.history.sweep(node)

    # Faults of runs

    @precondition(lambda self: self._statements())
    @rule(which=WHICH, lose=st.sampled_from(["before", "after"]), moves=MOVES)
    def lose_the_connection(self, which: int, lose: str, moves: list[tuple[int, Answer]]) -> None:
        self.history.play(one(self._statements(), which), lose=lose)
        self.go_on(moves)

    @precondition(lambda self: self.history.control.runs)
    @rule(which=WHICH, moves=MOVES)
    def leave_a_zombie(self, which: int, moves: list[tuple[int, Answer]]) -> None:
        self.history.give_up_on(one(self.history.control.runs, which))
        self.go_on(moves)

    @precondition(lambda self: self._statements())
    @rule(which=WHICH, moves=MOVES)
    def overtake_a_run(self, which: int, moves: list[tuple[int, Answer]]) -> None:
        """Let another try take the rows of a run that is about to write, and then let the first one write."""
        step = one(self._statements(), which)
        if step.run.current and step.run.rows:
            self.history.give_up_on(step.run)
            self.history.begin(step.run.workflow, NODES[which % 2])
            self.history.play(self.history.control.steps[-1])
            self.history.play(step)
        self.go_on(moves)

    @precondition(lambda self: self._statements())
    @rule(which=WHICH, close=st.sampled_from(CLOSING), moves=MOVES)
    def close_a_row_in_mid_run(self, which: int, close: dict[str, Any], moves: list[tuple[int, Answer]]) -> None:
        """Make a row ineligible right before its run writes."""
        writes = [step for step in self._statements() if step.name == "record_calls"]
        step = one(writes or self._statements(), which)
        for row in step.run.rows[:1]:
            if row.id in self.history.ledger.rows:
                self.history.change(row.id, **close)
        self.history.play(step)
        self.go_on(moves)

    @precondition(lambda self: self.history.control.runs)
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        self.history.heartbeat(one(self.history.control.runs, which))

    @rule(node=st.sampled_from(NODES), moves=MOVES, orderly=st.booleans())
    def end_a_process(self, node: str, moves: list[tuple[int, Answer]], *, orderly: bool) -> None:
        self.history.release_node(node) if orderly else self.history.crash(node)
        self.go_on(moves)

    @precondition(lambda self: self.history.workflows)
    @rule(which=WHICH)
    def terminate(self, which: int) -> None:
        name = one(sorted(self.history.workflows), which)
        self.history.workflows.pop(name).run = None

    @precondition(lambda self: not all(process.breaker.allows_calls for process in self.history.processes.values()))
    @rule()
    def open_the_gates(self) -> None:
        self.history.reset_breakers()

    def teardown(self) -> None:
        if self.begun:
            try:
                if not self.history.failed:
                    self.history.come_to_rest(kill=self.drawn.random() < 0.5)
            finally:
                self.history.end()
                self.close_loop()

    def _idle(self) -> list[Workflow]:
        return [workflow for workflow in self.history.workflows.values() if workflow.run is None]

    def _statements(self) -> list[Step]:
        return [step for step in self.history.control.steps if not step.calls_novu]
