"""Our side of Temporal's API: connect, make sure of the namespace, start a workflow, ask whether one still runs.

Addresses, namespaces, keys and TLS come from Temporal's own environment variables and profiles
(`temporalio.envconfig`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator, Mapping
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode

from dispatcher import condition, metrics
from dispatcher.errors import ConfigurationError, Unreachable
from dispatcher.models import WORKFLOW, Batch, Start, lane_of

RPC_SECONDS = 5
"""The SDK's own time-out is per attempt; this bounds a call whole."""
START_FAILURES = (RPCError, TimeoutError, RuntimeError)
"""What a start that did not happen raises; a bridge without connection raises RuntimeError."""
TASK_SECONDS = timedelta(seconds=5)
"""Also how long a workflow waits for redelivery after its process died."""
RUN_SECONDS = timedelta(hours=1)
WATCH_SECONDS = 10.0
STEADY_SECONDS, FORGIVEN_SECONDS = 5.0, 30.0
"""A server may start some workflows and refuse others, or be there and start nothing. It is whole when a start succeeds
and none failed for the shorter time, or when it says that it is well and none failed for the longer: rows whose start
failed are tried again in less."""
RETENTION = timedelta(days=7)
MOST_KEY = 64
"""Bytes of a fairness key; the server refuses a longer one."""


async def connect(environment: Mapping[str, str], *, create_namespace: bool, metrics_at: str | None = None) -> Client:
    """Connect as the TEMPORAL_* variables say; create the namespace when it is missing and we may.

    `metrics_at`: where the SDK's own metrics are served.
    """
    client = await reach(environment, metrics_at=metrics_at)
    with unreachable_at(client.service_client.config.target_host):
        async with asyncio.timeout(2 * RPC_SECONDS):
            await ensure_namespace(client, client.namespace, create=create_namespace)
    return client


async def reach(environment: Mapping[str, str], *, metrics_at: str | None = None) -> Client:
    """Connect as the TEMPORAL_* variables say, whether the namespace exists or not."""
    try:
        config = ClientConfig.load_client_connect_config(override_env_vars=environment)
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"TEMPORAL_*: the configuration cannot be read: {error}") from error
    address = config.setdefault("target_host", "localhost:7233")
    config.setdefault("namespace", "default")
    with unreachable_at(address):
        async with asyncio.timeout(2 * RPC_SECONDS):
            return await Client.connect(**config, runtime=runtime(metrics_at), grpc_compression=GrpcCompression.NONE)


@contextlib.contextmanager
def unreachable_at(address: str) -> Generator[None]:
    """Turn what a server that does not answer raises into a sentence."""
    try:
        yield
    except (RPCError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or "no answer"
        raise Unreachable(
            f"TEMPORAL_ADDRESS: no Temporal server lets us in at {address} ({reason:.200}). Does it run there, and do"
            " TEMPORAL_TLS_* and TEMPORAL_API_KEY fit it?"
        ) from error


def runtime(metrics_at: str | None) -> Runtime:
    """Return the SDK's engine, which by default writes coloured lines to stdout, past our logs.

    While the server is away each of its pollers warns at every retry; we say it once ourselves.
    """
    served = metrics_at and PrometheusConfig(
        metrics_at, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    heard = LoggingConfig("error,temporalio_sdk_core=warn", LogForwardingConfig(logging.getLogger("temporalio")))
    try:
        return Runtime(telemetry=TelemetryConfig(logging=heard, metrics=served or None))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"DISPATCHER_TEMPORAL_METRICS: nothing can be served at {metrics_at} ({reason:.200}); choose another"
        ) from error


async def ensure_namespace(client: Client, namespace: str, *, create: bool) -> None:
    """Create the namespace unless it exists, and wait until the server knows it everywhere."""
    deadline = asyncio.get_running_loop().time() + RPC_SECONDS
    while not await namespace_exists(client, namespace):
        if not create:
            raise ConfigurationError(
                f"TEMPORAL_NAMESPACE: {namespace!r} does not exist; create it, or set DISPATCHER_CREATE_NAMESPACE=true"
            )
        await register(client, namespace)
        if asyncio.get_running_loop().time() > deadline:
            raise Unreachable(f"TEMPORAL_NAMESPACE: {namespace!r} was created but is not usable yet; start again")
        await asyncio.sleep(0.2)


async def namespace_exists(client: Client, namespace: str) -> bool:
    """Return whether the server knows the namespace."""
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        if error.status is RPCStatusCode.PERMISSION_DENIED:
            return True  # a key that may work in the namespace need not be allowed to describe it
        raise
    return True


async def register(client: Client, namespace: str) -> None:
    """Create the namespace; another process may be faster."""
    request = RegisterNamespaceRequest(namespace=namespace, description="Notification delivery")
    request.workflow_execution_retention_period.FromTimedelta(RETENTION)
    with contextlib.suppress(RPCError):  # the caller looks again and tells what is wrong
        await client.workflow_service.register_namespace(request)


class Starter:
    """Starts workflows for what a claim took."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._queue = task_queue
        self._failed = -FORGIVEN_SECONDS

    async def start(self, start: Start) -> None:
        """Make sure that the workflow runs. Raises one of `START_FAILURES` when we cannot know that it does."""
        try:
            with metrics.Timed(metrics.TEMPORAL_START) as timed:
                timed.outcome = await self._start(start)
        except START_FAILURES as error:
            self._failed = time.monotonic()
            condition.broken("temporal", f"a workflow could not be started: {type(error).__name__}: {error}")
            raise
        self._whole_after(STEADY_SECONDS)

    async def _start(self, start: Start) -> str:
        """Start the workflow; return whether it was."""
        async with asyncio.timeout(RPC_SECONDS):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await self._client.start_workflow(
                    WORKFLOW,
                    Batch(start.notification_ids),
                    id=start.workflow_id,
                    task_queue=self._queue if start.solo else lane_of(self._queue),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,  # the ledger decides what is sent again
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    request_eager_start=True,
                    task_timeout=TASK_SECONDS,
                    execution_timeout=RUN_SECONDS,
                    # A server that knows fairness serves enterprises in turn where tasks pile up; others ignore it.
                    priority=Priority(fairness_key=start.enterprise.encode()[:MOST_KEY].decode(errors="ignore")),
                )
                return "started"
        return "already_running"

    async def answers(self) -> bool:
        """Return whether the server is there."""
        try:
            async with asyncio.timeout(RPC_SECONDS):
                healthy = await self._client.service_client.check_health()
        except START_FAILURES as error:
            condition.broken("temporal", f"does not answer: {type(error).__name__}: {error}")
            return False
        if healthy:
            self._whole_after(FORGIVEN_SECONDS)
        else:
            condition.broken("temporal", "answers that it does not serve")
        return healthy

    def _whole_after(self, seconds: float) -> None:
        """Say that the server works, unless a start failed so recently that others may as well."""
        if time.monotonic() - self._failed > seconds:
            condition.whole("temporal")

    async def watch(self) -> None:
        """Ask now and then: an idle dispatcher would not notice."""
        while True:
            await self.answers()
            await asyncio.sleep(WATCH_SECONDS)

    async def is_running(self, workflow_id: str) -> bool:
        """Return whether the workflow is open. Raises one of `START_FAILURES` when the server does not say.

        One on another task queue, of an earlier configuration perhaps, may wait for nobody: it is ended.
        """
        async with asyncio.timeout(RPC_SECONDS):
            workflow = self._client.get_workflow_handle(workflow_id)
            try:
                description = await workflow.describe()
                if description.status is not WorkflowExecutionStatus.RUNNING:
                    return False
                if description.task_queue in (self._queue, lane_of(self._queue)):
                    return True
                await workflow.terminate(reason=f"on the queue {description.task_queue}, not on {self._queue}")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        return False
