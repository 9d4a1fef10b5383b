"""The worker's storage: one run for each notification and subscriber, with its jobs and messages.

Jobs are not stored one by one, because the position of a run determines their states. Limit: 500,000 runs; the oldest
transaction is removed first.
"""

from collections.abc import Iterator

from dispatcher.devstack.fake_novu.registry import CHANNELS, NovuWorkflow

MAX_RUNS = 500_000


class Run:
    """A notification for one subscriber, at one step of its workflow. `created` is in epoch seconds."""

    __slots__ = ("canceled", "created", "environment", "messages", "number", "position", "subscriber",
                 "transaction_id", "workflow")  # fmt: skip

    def __init__(
        self,
        number: int,
        environment: str,
        transaction_id: str,
        subscriber: str,
        workflow: NovuWorkflow,
        created: float,
    ) -> None:
        self.number = number
        self.environment = environment
        self.transaction_id = transaction_id
        self.subscriber = subscriber
        self.workflow = workflow
        self.created = created
        self.position = 0
        self.messages: tuple[str, ...] = ()
        self.canceled = False

    def advance(self) -> float | None:
        """Execute the steps up to the next delay and return its seconds, or up to the end and return None."""
        steps = self.workflow.running
        while self.position < len(steps) and steps[self.position].type in CHANNELS:
            self.messages += (steps[self.position].type,)
            self.position += 1
        return steps[self.position].seconds if self.position < len(steps) else None

    @property
    def delayed(self) -> bool:
        """Whether the run waits in a delay step, the only state in which Novu can cancel it."""
        return not self.canceled and self.position < len(self.workflow.running)

    def jobs(self) -> Iterator[tuple[str, str]]:
        """Yield (type, status) of each job; the first is the trigger's own job."""
        yield "trigger", "completed"
        for index, step in enumerate(self.workflow.running):
            if index < self.position:
                yield step.type, "completed"
            elif self.canceled:
                yield step.type, "canceled"
            else:
                yield step.type, "delayed" if index == self.position else "pending"


class RunStore:
    """Runs by environment and transactionId, in the order in which the worker created them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove every run."""
        self._by_transaction: dict[tuple[str, str], list[Run]] = {}
        self._count = self._number = 0

    def __len__(self) -> int:
        return self._count

    def exists(self, environment: str, transaction_id: str) -> bool:
        """Return whether this environment has a job with this id. This is Novu's check for duplicates."""
        return (environment, transaction_id) in self._by_transaction

    def find(self, environment: str, transaction_id: str) -> list[Run]:
        """Return the runs of one transaction."""
        return self._by_transaction.get((environment, transaction_id), [])

    def all(self, environment: str) -> Iterator[Run]:
        """Yield every run of an environment, newest transaction first."""
        for (owner, _), runs in reversed(self._by_transaction.items()):
            if owner == environment:
                yield from runs

    def create(
        self, environment: str, transaction_id: str, subscriber: str, workflow: NovuWorkflow, created: float
    ) -> Run:
        """Store and return a new run."""
        self._number += 1
        run = Run(self._number, environment, transaction_id, subscriber, workflow, created)
        self._by_transaction.setdefault((environment, transaction_id), []).append(run)
        self._count += 1
        while self._count > MAX_RUNS:
            self._count -= len(self._by_transaction.pop(next(iter(self._by_transaction))))
        return run

    def cancel(self, environment: str, transaction_id: str) -> list[Run]:
        """Cancel the runs that wait in a delay step and return them. A cancel before the trigger has no effect."""
        waiting = [run for run in self.find(environment, transaction_id) if run.delayed]
        for run in waiting:
            run.canceled = True
        return waiting

    def delete_messages(self, environment: str, transaction_id: str, channel: str | None) -> list[Run]:
        """Remove the messages of a transaction, of one channel or of all; return the runs that had some."""
        found: list[Run] = []
        for run in self.find(environment, transaction_id):
            kept = tuple(name for name in run.messages if channel not in (None, name))
            if kept != run.messages:
                found.append(run)
            run.messages = kept
        return found
