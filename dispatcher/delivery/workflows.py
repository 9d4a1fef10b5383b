"""The one workflow: delivers a batch of notifications, tries again on the lane, and gives up in an orderly way.

On the hot queue the first try is a local activity, which runs in the process that started the workflow. Nothing here
does I/O or reads a clock; asyncio only, never anyio (its cancel scopes livelock inside a workflow).
"""

import asyncio
import itertools
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from dispatcher.decisions.backoff import Backoff
    from dispatcher.models.workflow_contract import (
        DELIVER,
        GIVE_UP,
        THROTTLED,
        WORKFLOW,
        Batch,
        ResultCounts,
        batch_queue,
    )

MAX_ATTEMPTS = 5
FIRST_RETRY = timedelta(seconds=1)
LOCAL_ACTIVITY_TIMEOUT = timedelta(seconds=8)
"""A local activity keeps its workflow task open: short, and never repeated in place."""
ACTIVITY_TIMEOUT = timedelta(minutes=10)
HEARTBEAT_TIMEOUT = timedelta(seconds=15)
MAX_THROTTLED_TIME = timedelta(hours=1)
"""How long a run lets Novu hold it up: a lock on a key lasts six minutes, a spent limit as long as others spend it."""
THROTTLE_BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=15))


@workflow.defn(name=WORKFLOW)
class NotificationDelivery:
    """Delivers what one claim gave it."""

    @workflow.run
    async def run(self, given: Any = None) -> ResultCounts:
        """Return how the notifications ended; what is still unsettled after all tries is given up for a later run.

        Takes anything: an input that the library could not decode would be tried again for ever.
        """
        batch = Batch.parse(given)
        queue = workflow.info().task_queue
        lane = batch_queue(queue)
        tries = MAX_ATTEMPTS
        if queue != lane:
            try:
                return await workflow.execute_local_activity(
                    DELIVER,
                    batch,
                    result_type=ResultCounts,
                    start_to_close_timeout=LOCAL_ACTIVITY_TIMEOUT,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            except FailureError as failure:
                tries -= not is_throttled(failure)
                await asyncio.sleep(retry_delay(failure).total_seconds())
        return await self.run_on_batch_queue(batch, lane, tries)

    async def run_on_batch_queue(self, batch: Batch, queue: str, max_attempts: int) -> ResultCounts:
        """Deliver with Temporal's retries, as often as Novu holds us up, then give up."""
        patient_until = workflow.now() + MAX_THROTTLED_TIME
        for holds in itertools.count():
            try:
                return await workflow.execute_activity(
                    DELIVER,
                    batch,
                    result_type=ResultCounts,
                    task_queue=queue,
                    start_to_close_timeout=ACTIVITY_TIMEOUT,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                    retry_policy=RetryPolicy(
                        initial_interval=FIRST_RETRY,
                        maximum_attempts=max_attempts,
                        non_retryable_error_types=[THROTTLED],
                    ),
                )
            except FailureError as failure:
                if not is_throttled(failure) or workflow.now() > patient_until:
                    break
                await asyncio.sleep(max(retry_delay(failure), THROTTLE_BACKOFF.delay(holds + 1)).total_seconds())
        return await workflow.execute_activity(
            GIVE_UP,
            batch,
            result_type=ResultCounts,
            task_queue=queue,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(initial_interval=FIRST_RETRY, maximum_attempts=20),
        )


def retry_delay(failure: FailureError) -> timedelta:
    """Return the wait Novu asked for. A local activity's error arrives bare, its time-out inside an ActivityError."""
    cause = failure.cause if isinstance(failure, ActivityError) else failure
    if isinstance(cause, ApplicationError) and cause.next_retry_delay is not None:
        return cause.next_retry_delay
    return FIRST_RETRY


def is_throttled(failure: FailureError) -> bool:
    """Whether nothing failed: Novu is still busy with the same call, or limits us."""
    cause = failure.cause if isinstance(failure, ActivityError) else failure
    return isinstance(cause, ApplicationError) and cause.type == THROTTLED
