"""One history: rows, two nodes, Temporal and Novu, moved step by step; what must hold is checked after each step."""

import asyncio
import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import OperationalError
from temporalio.exceptions import ApplicationError

from dispatcher.decisions.backoff import RETRY_BACKOFF
from dispatcher.models.claims import ClaimLimits, ExpiredLease, WorkflowStart
from dispatcher.models.workflow_contract import THROTTLED
from tests.model.invariants import POLICY, Audit
from tests.model.ledger import Ledger
from tests.model.ledger_rows import Row
from tests.model.model_outbox import Owner
from tests.model.novu import Answer, Novu, Process
from tests.model.step_control import Run, Step, StepControl, Workflow, started

STEP = 100
NODES = ("here", "there")
LARGE_CLAIM = ClaimLimits(limit=1000, capacity=1000, batch_size=2)


@dataclass
class Waiting:
    """A workflow that a node is about to start. `rescued`: it had these rows before, and a failed start keeps them."""

    node: str
    start: WorkflowStart
    rescued: ExpiredLease | None = None


class History:
    """Everything, and what can happen to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, *, idempotency_on: bool = True, seed: int = 0):
        self.luck = random.Random(seed)
        self.ledger: Ledger = owner.ledger
        self.owner = owner
        self.outboxes = {node: owner.outbox(node, self.luck) for node in NODES}
        self.novu = Novu(idempotency_on)
        self.processes = {node: Process(self.novu) for node in NODES}
        self.control = StepControl(loop)
        self.workflows: dict[str, Workflow] = {}
        self.waiting: list[Waiting] = []
        self.audit = Audit(self.ledger, self.novu)
        self.claims = 0
        self.failed = False

    # The owner

    def insert(self, row: Row) -> None:
        """Insert a row."""
        self._owns(row.id, lambda: self.owner.insert(row))

    def change(self, row_id: int, **columns: Any) -> None:
        """Change a row."""
        self._owns(row_id, lambda: self.owner.change(row_id, **columns))

    def delete(self, row_id: int) -> None:
        """Delete a row."""
        self._owns(row_id, lambda: self.owner.delete(row_id))

    def _owns(self, row_id: int, act: Any) -> None:
        with self._note_failure():
            self.control.run_now(act())
            self.ledger.now += 0.001
            self.audit.owner_wrote(row_id)

    def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        with self._note_failure():
            self.control.run_now(self.owner.let_pass(seconds))

    # The nodes

    def ours(self, action: Any, what: str, fences: dict[int, int] | None = None) -> Any:
        """Let one of our statements happen, and look at what it changed."""
        with self._note_failure():
            value = self.control.run_now(action)
            self.ledger.now += 0.001
            self.audit.we_wrote(what, fences)
        return value

    @contextmanager
    def _note_failure(self) -> Generator[None]:
        """Remember that a step failed: what comes after it would only hide that."""
        try:
            yield
        except BaseException:
            self.failed = True
            raise

    def wake(self, node: str, sizes: ClaimLimits = LARGE_CLAIM) -> None:
        """Wake a node's claimer: it claims due rows."""
        if not self.processes[node].breaker.allows_calls:
            return
        self.claims += 1
        claim = self.ours(self.outboxes[node].claim(f"c{self.claims}", POLICY.lease, sizes), "claim")
        self.waiting += [Waiting(node, start) for start in claim.starts]

    def start(self, waiting: Waiting, fate: str = "started") -> None:
        """Let a start succeed, fail, lose its answer, or die with its process."""
        self.waiting.remove(waiting)
        if fate in ("started", "answer lost"):
            self.workflows.setdefault(waiting.start.workflow_id, started(waiting.start))
        outbox = self.outboxes[waiting.node]
        if fate in ("failed", "answer lost") and waiting.rescued:
            fences = {
                row_id: fence + 1 for row_id, fence in zip(waiting.rescued.ids, waiting.rescued.fences, strict=True)
            }
            self.ours(outbox.uncount_rescue(waiting.rescued), "uncount_rescue", fences)
        elif fate in ("failed", "answer lost"):
            self.ours(outbox.release_unstarted(waiting.start), "release_unstarted")

    def sweep(self, node: str) -> None:
        """Put statuses back, adopt, and look after rows whose lease ran out."""
        found, _ = self.ours(self.outboxes[node].find_foreign_statuses(0, 1000), "find_foreign_statuses")
        new = [each for each in found if not each.was_put_back]
        self.ours(self.outboxes[node].put_statuses_back(new), "put_statuses_back")
        self.ours(self.outboxes[node].adopt_orphans(POLICY.lease, 100), "adopt_orphans")
        self._look_after(node, self.ours(self.outboxes[node].find_expired(100), "find_expired"))

    def sweep_together(self) -> None:
        """Let both nodes see the same rows before one of them acts."""
        late = self.ours(self.outboxes[NODES[0]].find_expired(100), "find_expired")
        for node in NODES:
            self._look_after(node, late)

    def _look_after(self, node: str, found: list[ExpiredLease]) -> None:
        outbox = self.outboxes[node]
        for late in found:
            fences = dict(zip(late.ids, late.fences, strict=True))
            if late.workflow_id in self.workflows:
                self.ours(outbox.renew_leases(late.ids, late.fences, POLICY.lease), "renew_leases", fences)
            elif start := self.ours(outbox.rescue(late, POLICY.lease), "rescue", fences):
                self.waiting.append(Waiting(node, start, late))

    def release_node(self, node: str) -> None:
        """Stop a node in an orderly way: its runs have ended, rows of workflows that did not begin are released."""
        self.waiting = [waiting for waiting in self.waiting if waiting.node != node]
        self.ours(self.outboxes[node].release_node(), "release_node")

    # The runs

    def begin(self, workflow: Workflow, node: str) -> None:
        """Let Temporal hand the workflow's next activity to a node."""
        self.control.begin(workflow, self.outboxes[node], self.processes[node], POLICY)
        self._close()

    def play(self, step: Step, answer: Answer = Answer.ACCEPT, lose: str | None = None) -> None:
        """Let a run take one step."""
        with self._note_failure():
            if step.calls_novu:
                self.control.play(step, answer)
                self.audit.novu_was_called()
            else:
                fences = None if step.name == "acquire" else {row.id: row.fence for row in step.run.rows}
                self.control.play(step, lose=lose)
                self.audit.we_wrote(step.name, fences)
            self.ledger.now += 0.001
            self._close()

    def heartbeat(self, run: Run) -> None:
        """Let a run renew its leases."""
        fences = {row.id: row.fence for row in run.rows}
        self.ours(
            self.outboxes[run.node].renew_leases(list(fences), list(fences.values()), POLICY.lease),
            "renew_leases",
            fences,
        )

    def give_up_on(self, run: Run) -> None:
        """Let Temporal's own limit for a run pass: another try may begin, this one goes on as a zombie."""
        if run.current:
            self._failed(run.workflow)

    def crash(self, node: str) -> None:
        """Let a process die."""
        self.waiting = [waiting for waiting in self.waiting if waiting.node != node]
        self.processes[node] = Process(self.novu)
        for run in [run for run in self.control.runs if run.node == node]:
            self.control.kill(run)
            self.give_up_on(run)

    def _close(self) -> None:
        """Tell Temporal how runs ended."""
        for run, error in self.control.ended():
            assert error is None or isinstance(error, (ApplicationError, OperationalError)), repr(error)
            if not run.current:
                continue
            if error is None:
                self.workflows.pop(run.workflow.id, None)
            elif isinstance(error, ApplicationError) and error.type == THROTTLED:
                run.workflow.run = None  # it only has to wait: no try is spent
            else:
                self._failed(run.workflow)

    def _failed(self, workflow: Workflow) -> None:
        workflow.run = None
        workflow.tries = max(0, workflow.tries - 1)

    # The end

    def come_to_rest(self, *, kill: bool) -> None:
        """Heal everything and let the rest happen; then all that is due has its outcome."""
        if kill:
            for node in NODES:
                self.crash(node)
        self.reset_breakers()
        for _ in range(POLICY.max_runs * 4 + 2):
            self.let_pass(STEP)
            self._do_all()
            if self._at_rest():
                break
        self.audit.at_rest()

    def reset_breakers(self) -> None:
        """Let Novu take our key again."""
        for process in self.processes.values():
            process.breaker.allows_calls = True

    def end(self) -> None:
        """Stop every run."""
        for run in list(self.control.runs):
            self.control.kill(run)

    def _do_all(self) -> None:
        """Let each node do what there is to do; what only waits goes on when time has passed."""
        for _ in range(6):
            for node in NODES:
                self.sweep(node)
                self.wake(node)
            for waiting in list(self.waiting):
                self.start(waiting)
            for workflow in list(self.workflows.values()):
                if workflow.run is None:
                    self.begin(workflow, NODES[0])
            if not self.control.steps:
                return
            while self.control.steps:
                self.play(self.control.steps[0])

    def _at_rest(self) -> bool:
        pending = any(head.lease is not None or head.next_attempt is not None for head in self.ledger.heads.values())
        return not (pending or self.workflows or self.ledger.units())


assert all(RETRY_BACKOFF.delay(n).total_seconds() % STEP for n in range(1, POLICY.max_runs))
