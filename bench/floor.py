"""The floor for any dispatcher with Temporal: NOTIFY, eager start, one local activity, one novu-py call, nothing else.

The writer's NOTIFY contains the recipient, so no SQL statement is on the path, and nothing is stored: a lost NOTIFY is
a lost notification. Client and worker have the settings of dispatcher/delivery/worker.py and
dispatcher/temporal/starter.py.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import GrpcCompression
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker

from bench.novu_client import Trigger
from dispatcher.delivery.worker import EAGER_SLOTS
from dispatcher.temporal import starter

CHANNEL = "floor"
WORKFLOW_KEY = "default-in-app"
PAYLOAD = '{"title": "Lift 3 is out of order", "message": "Please use lift 1."}'


@workflow.defn
class Floor:
    """Calls Novu once."""

    @workflow.run
    async def run(self, recipient: str) -> None:
        """Run the only activity, as a local one."""
        await workflow.execute_local_activity(
            "call_novu",
            recipient,
            start_to_close_timeout=timedelta(seconds=8),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


class Activities:
    """The activity and its client."""

    def __init__(self) -> None:
        self._trigger = Trigger()

    @activity.defn
    async def call_novu(self, recipient: str) -> None:
        """Trigger Novu."""
        await self._trigger(WORKFLOW_KEY, recipient, PAYLOAD)


async def main() -> None:
    """Serve until the process is ended."""
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], grpc_compression=GrpcCompression.NONE)
    with ThreadPoolExecutor(4) as executor:
        async with worker(client, executor):
            connection = await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True)
            await connection.execute(f"listen {CHANNEL}")
            print("ready", flush=True)
            async for notify in connection.notifies():
                await start(client, notify.payload)


def worker(client: Client, executor: ThreadPoolExecutor) -> Worker:
    """Return a worker like Dispatcher's for its eager queue."""
    return Worker(
        client,
        task_queue=os.environ["TEMPORAL_TASK_QUEUE"],
        workflows=[Floor],
        activities=[Activities().call_novu],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=executor,
        workflow_failure_exception_types=[Exception],
        max_concurrent_workflow_tasks=EAGER_SLOTS,
        max_concurrent_local_activities=EAGER_SLOTS,
        max_concurrent_activities=1,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(initial=5, maximum=20),
        no_remote_activities=True,
        max_cached_workflows=100,
        disable_eager_activity_execution=True,
    )


async def start(client: Client, recipient: str) -> None:
    """Start as dispatcher/temporal/starter.py does."""
    await client.start_workflow(
        Floor.run,
        recipient,
        id=f"floor-{recipient}",
        task_queue=os.environ["TEMPORAL_TASK_QUEUE"],
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        request_eager_start=True,
        task_timeout=starter.WORKFLOW_TASK_TIMEOUT,
        execution_timeout=starter.WORKFLOW_TIMEOUT,
    )


if __name__ == "__main__":
    asyncio.run(main())
