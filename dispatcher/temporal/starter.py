"""Starts a workflow, and asks whether one still runs."""

import asyncio
import contextlib
import time
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.models.claims import WorkflowStart
from dispatcher.models.workflow_contract import WORKFLOW, Batch, batch_queue
from dispatcher.telemetry import health, metrics
from dispatcher.temporal.client import RPC_TIMEOUT_SECONDS

START_FAILURES = (RPCError, TimeoutError, RuntimeError)
"""What a start that did not happen raises; a bridge without connection raises RuntimeError."""
WORKFLOW_TASK_TIMEOUT = timedelta(seconds=5)
"""Also how long a workflow waits for redelivery after its process died."""
WORKFLOW_TIMEOUT = timedelta(hours=1)
HEALTH_POLL_SECONDS = 10.0
QUIET_AFTER_START_SECONDS, QUIET_AFTER_PING_SECONDS = 5.0, 30.0
"""A server may start some workflows and refuse others, or be there and start nothing. It is whole when a start succeeds
and none failed for the shorter time, or when it says that it is well and none failed for the longer: rows whose start
failed are tried again in less."""
MAX_FAIRNESS_KEY_BYTES = 64
"""Bytes of a fairness key; the server refuses a longer one."""


class WorkflowStarter:
    """Starts workflows for what a claim took."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._queue = task_queue
        self._last_failure = -QUIET_AFTER_PING_SECONDS

    async def start(self, start: WorkflowStart) -> None:
        """Make sure that the workflow runs. Raises one of `START_FAILURES` when we cannot know that it does."""
        try:
            with metrics.Timed(metrics.TEMPORAL_START) as timed:
                timed.outcome = await self._start(start)
        except START_FAILURES as error:
            self._last_failure = time.monotonic()
            health.report_failure("temporal", f"a workflow could not be started: {type(error).__name__}: {error}")
            raise
        self._mark_healthy_after(QUIET_AFTER_START_SECONDS)

    async def _start(self, start: WorkflowStart) -> str:
        """Start the workflow; return whether it was."""
        async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await self._client.start_workflow(
                    WORKFLOW,
                    Batch(start.notification_ids),
                    id=start.workflow_id,
                    task_queue=self._queue if start.single else batch_queue(self._queue),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,  # the ledger decides what is sent again
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    request_eager_start=True,
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    execution_timeout=WORKFLOW_TIMEOUT,
                    # A server that knows fairness serves enterprises in turn where tasks pile up; others ignore it.
                    priority=Priority(
                        fairness_key=start.enterprise.encode()[:MAX_FAIRNESS_KEY_BYTES].decode(errors="ignore")
                    ),
                )
                return "started"
        return "already_running"

    async def is_available(self) -> bool:
        """Return whether the server is there."""
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
        """Say that the server works, unless a start failed so recently that others may as well."""
        if time.monotonic() - self._last_failure > seconds:
            health.report_ok("temporal")

    async def poll_health(self) -> None:
        """Ask now and then: an idle dispatcher would not notice."""
        while True:
            await self.is_available()
            await asyncio.sleep(HEALTH_POLL_SECONDS)

    async def is_running(self, workflow_id: str) -> bool:
        """Return whether the workflow is open. Raises one of `START_FAILURES` when the server does not say.

        One on another task queue, of an earlier configuration perhaps, may wait for nobody: it is ended.
        """
        async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
            workflow = self._client.get_workflow_handle(workflow_id)
            try:
                description = await workflow.describe()
                if description.status is not WorkflowExecutionStatus.RUNNING:
                    return False
                if description.task_queue in (self._queue, batch_queue(self._queue)):
                    return True
                await workflow.terminate(reason=f"on the queue {description.task_queue}, not on {self._queue}")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        return False
