"""Leaves workflows of other installations alone on the task queue named like the setting, which several may poll.

Temporal gives a task to any worker of the queue, and a worker cannot hand it back. It can answer that the run has to
wait, as for a busy Novu: the workflow stays open, no try is spent, and the next attempt goes to any of the queue's
workers again, sooner or later to one of its own installation. The workflow's own code only schedules activities, so it
may run anywhere.
"""

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from dispatcher.models.workflow_contract import THROTTLED, Batch
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.telemetry.logs import get_logger

log = get_logger("shared_queue")


class ForeignWorkflows(Interceptor):
    """Refuses the activities of workflows that this installation's ledger does not know."""

    def __init__(self, outbox: OutboxStore) -> None:
        self._outbox = outbox
        self._has_warned = False

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap every activity."""
        return ForeignActivity(next, self)

    async def require_known(self, batch: Batch) -> None:
        """Raise ApplicationError of type `THROTTLED` if no row of the ledger has this workflow."""
        workflow_id = activity.info().workflow_id or ""
        if await self._outbox.knows_workflow(workflow_id, batch.notification_ids):
            return
        if not self._has_warned:
            self._has_warned = True
            log.warning("foreign_workflow_left", workflow_id=workflow_id, queue=activity.info().task_queue)
        raise ApplicationError(
            "a workflow of another installation",
            activity.info().attempt - 1,
            type=THROTTLED,
            category=ApplicationErrorCategory.BENIGN,
        )


class ForeignActivity(ActivityInboundInterceptor):
    """Asks before each activity whether its workflow is of this installation."""

    def __init__(self, next: ActivityInboundInterceptor, workflows: ForeignWorkflows) -> None:  # noqa: A002
        super().__init__(next)
        self._workflows = workflows

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run the activity, unless its workflow is another installation's."""
        await self._workflows.require_known(input.args[0])
        return await super().execute_activity(input)
