"""The only workflow: delivers a batch of notifications, tries again on the batch queue, and at last gives up.

On the first-try queue the first try is a local activity, which runs in the process that started the workflow. This code
does no I/O and reads no clock but Temporal's. It uses asyncio, never anyio, whose cancel scopes livelock in a workflow.
Temporal replays old histories: a change must not alter the commands that the workflow issues.
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
"""Tries of `deliver` before a run gives up, counted over the whole run. A throttled try is not counted."""
FIRST_RETRY = timedelta(seconds=1)
LOCAL_ACTIVITY_TIMEOUT = timedelta(seconds=8)
"""Short, because a local activity keeps its workflow task open. It is never repeated locally for the same reason."""
ACTIVITY_TIMEOUT = timedelta(minutes=10)
HEARTBEAT_TIMEOUT = timedelta(seconds=15)
MAX_THROTTLED_TIME = timedelta(hours=1)
"""Longest time that a run waits while Novu throttles it. Novu may answer 409 for about 6 min after its process died; a
rate limit lasts as long as other clients use it up."""
THROTTLE_BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=15))
"""1 2 4 8 15 15 … s between tries while Novu throttles the run; Novu may ask for longer."""


@workflow.defn(name=WORKFLOW)
class NotificationDelivery:
    """Delivers the notifications of one batch."""

    @workflow.run
    async def run(self, given: Any = None) -> ResultCounts:
        """Return how the notifications ended. Unsettled ones are given up after all tries, for a later run.

        Accepts any input and raises ValueError if it is no batch. With a typed input, Temporal would repeat the
        workflow task for ever if it could not decode the value.
        """
        batch = Batch.parse(given)
        own_queue = workflow.info().task_queue
        retry_queue = batch_queue(own_queue)
        attempts_left = MAX_ATTEMPTS
        if own_queue != retry_queue:
            try:
                return await workflow.execute_local_activity(
                    DELIVER,
                    batch,
                    result_type=ResultCounts,
                    start_to_close_timeout=LOCAL_ACTIVITY_TIMEOUT,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            except FailureError as failure:
                attempts_left -= not is_throttled(failure)
                await asyncio.sleep(retry_delay(failure).total_seconds())
        return await self.run_on_batch_queue(batch, retry_queue, attempts_left)

    async def run_on_batch_queue(self, batch: Batch, queue: str, attempts_left: int) -> ResultCounts:
        """Deliver with Temporal's retries, again after each throttled try for up to an hour, then give up."""
        deadline = workflow.now() + MAX_THROTTLED_TIME
        for throttled_tries in itertools.count(1):
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
                        maximum_attempts=attempts_left,
                        non_retryable_error_types=[THROTTLED],
                    ),
                )
            except FailureError as failure:
                if not is_throttled(failure) or workflow.now() > deadline:
                    break
                attempts_left = max(1, attempts_left - attempts_before(failure))
                await asyncio.sleep(max(retry_delay(failure), THROTTLE_BACKOFF.delay(throttled_tries)).total_seconds())
        return await workflow.execute_activity(
            GIVE_UP,
            batch,
            result_type=ResultCounts,
            task_queue=queue,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(initial_interval=FIRST_RETRY, maximum_attempts=20),
        )


def retry_delay(failure: FailureError) -> timedelta:
    """Return the wait before the next try: the one that the activity asked for, else `FIRST_RETRY`."""
    error = application_error(failure)
    return FIRST_RETRY if error is None or error.next_retry_delay is None else error.next_retry_delay


def is_throttled(failure: FailureError) -> bool:
    """Whether the try did not fail but has to wait: Novu is busy with the same call, or limits our rate."""
    error = application_error(failure)
    return error is not None and error.type == THROTTLED


def attempts_before(failure: FailureError) -> int:
    """Return how many tries of the same activity failed before the throttled one.

    The activity says it. A throttled try of an earlier version does not, so that its run continues as it began.
    """
    error = application_error(failure)
    said = error.details[0] if error is not None and error.details else 0
    return said if isinstance(said, int) else 0


def application_error(failure: FailureError) -> ApplicationError | None:
    """Return the error that the activity raised; None: it raised none, for example because it timed out.

    A local activity's error arrives as it is; other errors, and its time-out, arrive inside an ActivityError.
    """
    cause = failure.cause if isinstance(failure, ActivityError) else failure
    return cause if isinstance(cause, ApplicationError) else None
