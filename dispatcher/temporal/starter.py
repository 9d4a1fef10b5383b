"""Starts workflows, and asks the server whether one is still running."""

import asyncio
import contextlib
import time
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.models.claims import WorkflowStart
from dispatcher.models.workflow_contract import WORKFLOW, Batch, TaskQueues, batch_queue
from dispatcher.telemetry import health, metrics
from dispatcher.temporal.client import RPC_TIMEOUT_SECONDS

START_FAILURES = (RPCError, TimeoutError, RuntimeError)
"""Errors of a failed start; the SDK raises RuntimeError while it has no connection."""
WORKFLOW_TASK_TIMEOUT = timedelta(seconds=5)
"""After a crash the server gives a workflow task to another process when this time is over."""
WORKFLOW_TIMEOUT = timedelta(hours=1)
HEALTH_POLL_SECONDS = 10.0
QUIET_AFTER_START_SECONDS, QUIET_AFTER_PING_SECONDS = 5.0, 30.0
"""A server may start some workflows and refuse others, or answer health checks and start none. It is reported healthy
after a successful start if no start failed for the shorter time, and after a good health check if none failed for the
longer. Rows whose start failed are tried again sooner than that."""
MAX_FAIRNESS_KEY_BYTES = 64
"""The server refuses a longer fairness key."""


class WorkflowStarter:
    """Starts workflows for claimed rows, and reports the server's health from the results."""

    def __init__(self, client: Client, queues: TaskQueues) -> None:
        self._client = client
        self._queues = queues
        self._last_failure = -QUIET_AFTER_PING_SECONDS

    async def start(self, start: WorkflowStart) -> None:
        """Start the workflow unless it is running. Raises one of `START_FAILURES` if it is not known to run."""
        try:
            with metrics.Timed(metrics.TEMPORAL_START) as timed:
                timed.outcome = await self._start(start)
        except START_FAILURES as error:
            self._last_failure = time.monotonic()
            health.report_failure("temporal", f"a workflow could not be started: {type(error).__name__}: {error}")
            raise
        self._mark_healthy_after(QUIET_AFTER_START_SECONDS)

    async def _start(self, start: WorkflowStart) -> str:
        """Start the workflow; return `started` or `already_running`, labels of a metric."""
        async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await self._client.start_workflow(
                    WORKFLOW,
                    Batch(start.notification_ids),
                    id=start.workflow_id,
                    task_queue=self._queues.first_try if start.first_try else batch_queue(self._queues.first_try),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,  # the ledger decides what is sent again
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    request_eager_start=True,
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    execution_timeout=WORKFLOW_TIMEOUT,
                    # Under backlog, a server with fairness serves enterprises in turn; an older one ignores the key.
                    priority=Priority(
                        fairness_key=start.enterprise.encode()[:MAX_FAIRNESS_KEY_BYTES].decode(errors="ignore")
                    ),
                )
                return "started"
        return "already_running"

    async def is_available(self) -> bool:
        """Return whether the server answers that it serves, and report its health."""
        try:
            async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
                healthy = await self._client.service_client.check_health()
        except START_FAILURES as error:
            health.report_failure("temporal", f"does not answer: {type(error).__name__}: {error}")
            return False
        if healthy:
            self._mark_healthy_after(QUIET_AFTER_PING_SECONDS)
        else:
            health.report_failure("temporal", "answers that it does not serve")
        return healthy

    def _mark_healthy_after(self, seconds: float) -> None:
        """Report the server healthy, unless a start failed within the last `seconds`."""
        if time.monotonic() - self._last_failure > seconds:
            health.report_ok("temporal")

    async def poll_health(self) -> None:
        """Check the server every 10 s: an idle dispatcher starts nothing and would not notice an outage."""
        while True:
            await self.is_available()
            await asyncio.sleep(HEALTH_POLL_SECONDS)

    async def is_running(self, workflow_id: str) -> bool:
        """Return whether the workflow is running. Raises one of `START_FAILURES` if the server does not say.

        A workflow on another task queue, from an earlier configuration perhaps, may have no worker: it is terminated.
        """
        async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
            workflow = self._client.get_workflow_handle(workflow_id)
            try:
                description = await workflow.describe()
                if description.status is not WorkflowExecutionStatus.RUNNING:
                    return False
                if description.task_queue in self._queues.all_names:
                    return True
                reason = f"on the queue {description.task_queue}, not on {self._queues.first_try}"
                await workflow.terminate(reason=reason)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        return False
