"""The Temporal workers: one for the hot queue, one for the lane, both on the starter's client.

Sharing the client is what lets a start come back with its first task (eager start). Slots outnumber pollers, because an
idle poller reserves one.
"""

from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    PollerBehaviorAutoscaling,
    UnsandboxedWorkflowRunner,
    Worker,
)

from dispatcher.config.settings import Settings
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.delivery.workflows import NotificationDelivery
from dispatcher.models.workflow_contract import batch_queue
from dispatcher.telemetry.logs import error_code, get_logger

GRACEFUL_SHUTDOWN = timedelta(seconds=15)
"""What a running regular activity gets after SIGTERM; a local one is always awaited (8 s at most)."""
EAGER_SLOTS = 200

log = get_logger("worker")


class ErrorRedaction(Interceptor):
    """Keeps what errors say out of Temporal's histories, where everybody with access to the namespace reads it."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap every activity."""
        return ErrorRedactingActivity(next)


class ErrorRedactingActivity(ActivityInboundInterceptor):
    """Tells Temporal an error's class and code; its words, which can repeat a row, go to the log, which hides them."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run the activity; only errors that are ours, and codes, get out."""
        try:
            return await super().execute_activity(input)
        except ApplicationError:
            raise
        except Exception as error:  # whatever it is, Temporal decides how often to try again
            log.exception("activity_failed")
            # Benign: Temporal's library would log it a second time.
            told = ApplicationError(
                error_code(error), type=type(error).__name__, category=ApplicationErrorCategory.BENIGN
            )
        raise told  # outside, so that it does not carry the other one along


@asynccontextmanager
async def run_workers(
    client: Client, settings: Settings, deliveries: DeliveryActivities, *, build: str
) -> AsyncGenerator[None]:
    """Run both workers until the block ends; leaving it drains them."""
    queue = settings.task_queue
    with ThreadPoolExecutor(4, "workflow-task") as executor:
        async with AsyncExitStack() as workers:
            for task_queue in (batch_queue(queue), queue):
                worker = build_worker(client, task_queue, settings, deliveries, executor, build=build)
                await workers.enter_async_context(worker)
            yield


def build_worker(
    client: Client,
    task_queue: str,
    settings: Settings,
    deliveries: DeliveryActivities,
    executor: ThreadPoolExecutor,
    *,
    build: str,
) -> Worker:
    """Return the worker of one queue. The body of the workflow has no I/O, so it runs without the sandbox's cost."""
    lane = task_queue == batch_queue(task_queue)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[NotificationDelivery],
        activities=[deliveries.deliver, deliveries.give_up],
        interceptors=[ErrorRedaction()],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=executor,
        # A bug must end the run (the row comes back) instead of repeating its local activity for ever.
        workflow_failure_exception_types=[Exception],
        max_concurrent_workflow_tasks=settings.max_concurrent_workflows if lane else EAGER_SLOTS,
        max_concurrent_local_activities=EAGER_SLOTS,
        max_concurrent_activities=settings.max_concurrent_activities if lane else 1,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(initial=5, maximum=20),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(initial=5, maximum=20),
        no_remote_activities=not lane,
        max_cached_workflows=settings.max_cached_workflows,
        graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
        disable_eager_activity_execution=True,
        build_id=build,
    )
