"""The real activities, stopped before each statement and each call, so that a history decides what happens next.

A run waits before every statement and every call. The history lets one step happen, lets it happen and loses the
answer, or lets the process die there.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from psycopg import OperationalError
from temporalio.testing import ActivityEnvironment

from dispatcher.decisions.validation import AcquiredRow
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.models.claims import WorkflowStart
from dispatcher.models.notification import Notification, RunLimits
from dispatcher.models.workflow_contract import Batch
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.outbox import OutboxStore
from tests.model.model_outbox import ModelOutbox
from tests.model.novu import Answer, Process
from tests.model.store_methods import AsyncMethod

TRIES = 2
"""Temporal's are five; fewer make giving up more common in a short history."""


@dataclass
class Workflow:
    """Temporal's state of one workflow."""

    id: str
    ids: list[int]
    first_try: bool
    tries: int = TRIES
    eager: bool = True
    run: "Run | None" = None


@dataclass
class Run:
    """One try of one activity, in one process. Without `current` it is a zombie: Temporal has given it up."""

    node: str
    workflow: Workflow
    task: "asyncio.Task[Any] | None" = None
    rows: list[Notification] = field(default_factory=list[Notification])

    @property
    def current(self) -> bool:
        """Whether Temporal still waits for it."""
        return self.workflow.run is self


@dataclass
class Step:
    """Something a run is about to do. `since` is when it came to it."""

    run: Run
    name: str
    act: AsyncMethod
    since: float
    done: "asyncio.Future[Any]"

    @property
    def calls_novu(self) -> bool:
        """Whether Novu has to answer."""
        return self.name in ("trigger", "look_up")


class StepControl:
    """All runs of all processes, and what each is about to do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.steps: list[Step] = []
        self.runs: list[Run] = []

    def run_now(self, action: Awaitable[Any]) -> Any:
        """Let something happen at once."""
        return self.loop.run_until_complete(action)

    async def wait_for_step(self, run: Run, name: str, act: AsyncMethod, now: float = 0) -> Any:
        """Wait until the history lets this happen."""
        step = Step(run, name, act, now, self.loop.create_future())
        self.steps.append(step)
        return await step.done

    def begin(self, workflow: Workflow, outbox: ModelOutbox, process: Process, policy: RunLimits) -> None:
        """Begin the workflow's next activity on a node."""
        run = workflow.run = Run(outbox.node, workflow)
        stepped, novu = SteppedOutbox(self, run, outbox), SteppedNovu(self, run, outbox, process)
        deliveries = DeliveryActivities(cast("OutboxStore", stepped), cast("NovuClient", novu), policy)
        environment = ActivityEnvironment()
        local, workflow.eager = workflow.first_try and workflow.eager, False
        environment.info = dataclasses.replace(environment.info, workflow_id=workflow.id, is_local=local)
        activity = deliveries.deliver if workflow.tries else deliveries.give_up

        async def played() -> Any:
            return await environment.run(activity, Batch(workflow.ids))

        run.task = self.loop.create_task(played())
        self.runs.append(run)
        self.settle_down()

    def play(self, step: Step, *arguments: Any, lose: str | None = None) -> None:
        """Let a step happen; `lose`: the connection breaks "before" or "after" it."""
        self.steps.remove(step)
        value = None if lose == "before" else self.run_now(step.act(*arguments))
        if lose:
            step.done.set_exception(OperationalError("the connection is lost"))
        else:
            step.done.set_result(value)
        self.settle_down()

    def kill(self, run: Run) -> None:
        """Let a run's process die at its current step."""
        assert run.task is not None
        for step in [step for step in self.steps if step.run is run]:
            self.steps.remove(step)
            step.done.cancel()  # a background task that waits for an answer ends with its process, too
        run.task.cancel()
        self.settle_down()
        if run in self.runs:
            self.runs.remove(run)

    def settle_down(self) -> None:
        """Let every run go on until it waits again or has ended."""

        async def breathe() -> None:
            for _ in range(8):
                await asyncio.sleep(0)

        self.run_now(breathe())

    def ended(self) -> list[tuple[Run, BaseException | None]]:
        """Return the runs that ended, with what they raised."""
        found: list[tuple[Run, BaseException | None]] = []
        for run in [run for run in self.runs if run.task is not None and run.task.done()]:
            assert run.task is not None
            self.runs.remove(run)
            found.append((run, None if run.task.cancelled() else run.task.exception()))
        return found


class SteppedOutbox:
    """A node's outbox, as one run uses it: the history decides when each statement runs."""

    def __init__(self, control: StepControl, run: Run, outbox: ModelOutbox) -> None:
        self._control, self._run, self._outbox = control, run, outbox

    def __getattr__(self, name: str) -> AsyncMethod:
        method = getattr(self._outbox, name)

        async def stepped(*args: Any) -> Any:
            return await self._control.wait_for_step(self._run, name, lambda: method(*args))

        return stepped

    async def acquire(self, *args: Any) -> list[AcquiredRow]:
        """Remember the rows that the run works on."""
        acquired = await self.__getattr__("acquire")(*args)
        self._run.rows = [item.notification for item in acquired]
        return acquired

    async def renew_leases(self, *_: Any) -> None:
        """Do nothing: the history renews leases, not the real clock."""


class SteppedNovu:
    """Novu as one run uses it; a call that waited longer than it may has ended without leaving."""

    def __init__(self, control: StepControl, run: Run, outbox: ModelOutbox, process: Process) -> None:
        self._control, self._run, self._outbox, self._process = control, run, outbox, process
        self.breaker, self.rate_limiter = process.breaker, process.rate_limiter

    async def honours_keys(self) -> bool:
        """Answer as Novu would answer the question."""
        return self._process.novu.idempotency_on

    async def trigger(self, events: Sequence[TriggerEvent], key: str, within: float) -> list[CallResult]:
        begun = self._outbox.ledger.now

        async def act(answer: Answer) -> list[CallResult]:
            now = self._outbox.ledger.now
            if now - begun > within:
                return [CallResult(AnswerClass.UNKNOWN, "timeout", "no answer")] * len(events)
            return self._process.novu.trigger(events, key, answer, now)

        outcomes = await self._control.wait_for_step(self._run, "trigger", act, begun)
        self._process.learn(outcomes)
        return outcomes

    async def look_up(self, event: TriggerEvent, within: float) -> CallResult:
        begun = self._outbox.ledger.now

        async def act(answer: Answer) -> CallResult:
            now = self._outbox.ledger.now
            if now - begun > within:
                answer = Answer.LOST_BEFORE
            return self._process.novu.look_up(event, answer, now)

        return await self._control.wait_for_step(self._run, "look_up", act, begun)


def started(start: WorkflowStart) -> Workflow:
    """Return the workflow that a start begins."""
    return Workflow(start.workflow_id, start.notification_ids, start.first_try)
