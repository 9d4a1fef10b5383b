"""The Temporal workers: one for the first-try queue, one for the batch queue, all on the starter's client.

Two more, with few pollers, serve the queues named like the setting, where earlier versions started workflows. Other
installations may use these too.

Because the client is shared, a start can return with the workflow's first task (eager start). There are more slots than
pollers, because an idle poller reserves a slot.
"""

from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    UnsandboxedWorkflowRunner,
    Worker,
)

from dispatcher.config.settings import Settings
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.delivery.shared_queue import ForeignWorkflows
from dispatcher.delivery.workflows import NotificationDelivery
from dispatcher.models.workflow_contract import DELIVER, TaskQueues, batch_queue
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.telemetry.logs import error_code, get_logger
from dispatcher.temporal.runs_in_flight import RunsInFlight

GRACEFUL_SHUTDOWN = timedelta(seconds=15)
"""Time for running regular activities after SIGTERM. A local one is always awaited; it takes at most 8 s."""
EAGER_SLOTS = 200
"""Workflow tasks and local activities that may run at once."""
OWN_POLLERS = PollerBehaviorAutoscaling(initial=5, maximum=20)
SHARED_POLLERS = PollerBehaviorSimpleMaximum(2)
"""On the shared queues, which are empty most of the time."""

log = get_logger("worker")


class ErrorRedaction(Interceptor):
    """Keeps error texts out of Temporal's histories, which everybody with access to the namespace can read."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap every activity."""
        return ErrorRedactingActivity(next)


class ErrorRedactingActivity(ActivityInboundInterceptor):
    """Raises an error's class and code only. Its text can quote a row: it goes to the log, which redacts it."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run the activity. Raises only ApplicationError: our own unchanged, any other error as its class and code."""
        try:
            return await super().execute_activity(input)
        except ApplicationError:
            raise
        except Exception as error:  # any error: Temporal decides how often to try again
            log.exception("activity_failed")
            # Benign, because Temporal's library would otherwise log it a second time.
            redacted = ApplicationError(
                error_code(error), type=type(error).__name__, category=ApplicationErrorCategory.BENIGN
            )
        raise redacted  # outside the handler, so that it has no context with the original text


class FirstTries(Interceptor):
    """Tells the claim loop that the first try of a run has ended."""

    def __init__(self, runs: RunsInFlight) -> None:
        self._runs = runs

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap every activity."""
        return FirstTryActivity(next, self._runs)


class FirstTryActivity(ActivityInboundInterceptor):
    """Removes a run from those in flight when its `deliver` ends, however it ends."""

    def __init__(self, next: ActivityInboundInterceptor, runs: RunsInFlight) -> None:  # noqa: A002
        super().__init__(next)
        self._runs = runs

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run the activity."""
        info = activity.info()
        try:
            return await super().execute_activity(input)
        finally:
            if info.activity_type == DELIVER and info.workflow_id:
                self._runs.remove(info.workflow_id)


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts that all workers of a process share. `identity`: their name at Temporal. `build`: of this version."""

    client: Client
    settings: Settings
    deliveries: DeliveryActivities
    outbox: OutboxStore
    runs: RunsInFlight
    identity: str
    build: str


@asynccontextmanager
async def run_workers(parts: WorkerParts, queues: TaskQueues) -> AsyncGenerator[None]:
    """Run the workers until the block ends, then wait until they are drained."""
    with ThreadPoolExecutor(4, "workflow-task") as executor:
        async with AsyncExitStack() as workers:
            for queue in (queues.shared, queues.first_try):
                for each in (batch_queue(queue), queue):
                    worker = build_worker(parts, each, executor, shared=queue == queues.shared)
                    await workers.enter_async_context(worker)
            yield


def build_worker(parts: WorkerParts, task_queue: str, executor: ThreadPoolExecutor, *, shared: bool) -> Worker:
    """Return the worker of one queue. `shared`: workflows of other installations may be there.

    The workflow has no I/O, so it runs without Temporal's sandbox and its cost.
    """
    is_batch_queue = task_queue == batch_queue(task_queue)
    settings, pollers = parts.settings, SHARED_POLLERS if shared else OWN_POLLERS
    return Worker(
        parts.client,
        task_queue=task_queue,
        workflows=[NotificationDelivery],
        activities=[parts.deliveries.deliver, parts.deliveries.give_up],
        interceptors=[FirstTries(parts.runs), ErrorRedaction(), *([ForeignWorkflows(parts.outbox)] if shared else [])],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=executor,
        # A bug has to end the run, whose rows are rescued later, instead of repeating its local activity for ever.
        workflow_failure_exception_types=[Exception],
        max_concurrent_workflow_tasks=settings.max_concurrent_workflows if is_batch_queue else EAGER_SLOTS,
        max_concurrent_local_activities=EAGER_SLOTS,
        max_concurrent_activities=settings.max_concurrent_activities if is_batch_queue else 1,
        workflow_task_poller_behavior=pollers,
        activity_task_poller_behavior=pollers,
        no_remote_activities=not is_batch_queue,
        max_cached_workflows=settings.max_cached_workflows,
        graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
        disable_eager_activity_execution=True,
        identity=parts.identity,
        build_id=parts.build,
    )
