"""Connects to Temporal, and creates the namespace if it is missing.

Addresses, namespaces, keys and TLS come from Temporal's own environment variables and profiles
(`temporalio.envconfig`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Generator, Mapping
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode

from dispatcher.models.errors import ConfigurationError, Unreachable

RPC_TIMEOUT_SECONDS = 5
"""Limit of a whole call; the SDK's own time-out is for each attempt."""
NAMESPACE_RETENTION = timedelta(days=7)
"""Time for which Temporal keeps the history of an ended workflow, unless a setting says otherwise."""


async def connect_to_namespace(
    environment: Mapping[str, str],
    *,
    create_namespace: bool,
    retention: timedelta = NAMESPACE_RETENTION,
    metrics_at: str | None = None,
) -> Client:
    """Connect with the TEMPORAL_* variables of `environment`. Create a missing namespace if `create_namespace`.

    `retention`: of the created namespace. `metrics_at`: address, host:port, that serves the SDK's own metrics. Raises
    ConfigurationError or Unreachable.
    """
    client = await connect_client(environment, metrics_at=metrics_at)
    with explain_unreachable(client.service_client.config.target_host):
        async with asyncio.timeout(2 * RPC_TIMEOUT_SECONDS):
            await ensure_namespace(client, client.namespace, retention, create=create_namespace)
    return client


async def connect_client(environment: Mapping[str, str], *, metrics_at: str | None = None) -> Client:
    """Connect with the TEMPORAL_* variables of `environment`, whether the namespace exists or not.

    Raises ConfigurationError or Unreachable.
    """
    try:
        config = ClientConfig.load_client_connect_config(override_env_vars=environment)
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"TEMPORAL_*: the configuration cannot be read: {error}") from error
    address = config.setdefault("target_host", "localhost:7233")
    config.setdefault("namespace", "default")
    with explain_unreachable(address):
        async with asyncio.timeout(2 * RPC_TIMEOUT_SECONDS):
            return await Client.connect(
                **config, runtime=build_runtime(metrics_at), grpc_compression=GrpcCompression.NONE
            )


@contextlib.contextmanager
def explain_unreachable(address: str) -> Generator[None]:
    """Turn the errors of a server that does not answer or refuses us into `Unreachable`."""
    try:
        yield
    except (RPCError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or "no answer"
        raise Unreachable(
            f"TEMPORAL_ADDRESS: cannot connect to a Temporal server at {address} ({reason:.200}). Is it running there,"
            " and are TEMPORAL_TLS_* and TEMPORAL_API_KEY right for it?"
        ) from error


def build_runtime(metrics_at: str | None) -> Runtime:
    """Return the SDK's runtime, with its log lines in our log; by default it writes coloured lines to stdout.

    Only errors of its pollers are logged: while the server is away, each poller warns at every retry, and we log the
    outage once. Raises ConfigurationError if nothing can listen at `metrics_at`.
    """
    prometheus = metrics_at and PrometheusConfig(
        metrics_at, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    log_config = LoggingConfig("error,temporalio_sdk_core=warn", LogForwardingConfig(logging.getLogger("temporalio")))
    try:
        return Runtime(telemetry=TelemetryConfig(logging=log_config, metrics=prometheus or None))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"DISPATCHER_TEMPORAL_METRICS: nothing can be served at {metrics_at} ({reason:.200}); choose another"
        ) from error


async def ensure_namespace(client: Client, namespace: str, retention: timedelta, *, create: bool) -> None:
    """Create the namespace unless it exists, and wait until the server finds it.

    Raises ConfigurationError if it is missing and not to be created, Unreachable if it is not usable after 5 s.
    """
    deadline = asyncio.get_running_loop().time() + RPC_TIMEOUT_SECONDS
    while not await namespace_exists(client, namespace):
        if not create:
            raise ConfigurationError(
                f"TEMPORAL_NAMESPACE: {namespace!r} does not exist; create it, or set DISPATCHER_CREATE_NAMESPACE=true"
            )
        await create_namespace(client, namespace, retention)
        if asyncio.get_running_loop().time() > deadline:
            raise Unreachable(f"TEMPORAL_NAMESPACE: {namespace!r} was created but is not usable yet; start again")
        await asyncio.sleep(0.2)


async def namespace_exists(client: Client, namespace: str) -> bool:
    """Return whether the namespace exists, or we may not ask. Raises RPCError for other failures."""
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        if error.status is RPCStatusCode.PERMISSION_DENIED:
            return True  # a key that may use the namespace need not be allowed to describe it
        raise
    return True


async def create_namespace(client: Client, namespace: str, retention: timedelta) -> None:
    """Create the namespace; no error if another process was faster."""
    request = RegisterNamespaceRequest(namespace=namespace, description="Notification delivery")
    request.workflow_execution_retention_period.FromTimedelta(retention)
    with contextlib.suppress(RPCError):  # the caller checks again and reports what is wrong
        await client.workflow_service.register_namespace(request)
