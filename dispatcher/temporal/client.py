"""Connects to Temporal and makes sure that the namespace exists.

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
"""The SDK's own time-out is per attempt; this bounds a call whole."""
NAMESPACE_RETENTION = timedelta(days=7)


async def connect_to_namespace(
    environment: Mapping[str, str], *, create_namespace: bool, metrics_at: str | None = None
) -> Client:
    """Connect as the TEMPORAL_* variables say; create the namespace when it is missing and we may.

    `metrics_at`: where the SDK's own metrics are served.
    """
    client = await connect_client(environment, metrics_at=metrics_at)
    with explain_unreachable(client.service_client.config.target_host):
        async with asyncio.timeout(2 * RPC_TIMEOUT_SECONDS):
            await ensure_namespace(client, client.namespace, create=create_namespace)
    return client


async def connect_client(environment: Mapping[str, str], *, metrics_at: str | None = None) -> Client:
    """Connect as the TEMPORAL_* variables say, whether the namespace exists or not."""
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
    """Turn what a server that does not answer raises into a sentence."""
    try:
        yield
    except (RPCError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or "no answer"
        raise Unreachable(
            f"TEMPORAL_ADDRESS: no Temporal server lets us in at {address} ({reason:.200}). Does it run there, and do"
            " TEMPORAL_TLS_* and TEMPORAL_API_KEY fit it?"
        ) from error


def build_runtime(metrics_at: str | None) -> Runtime:
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
    deadline = asyncio.get_running_loop().time() + RPC_TIMEOUT_SECONDS
    while not await namespace_exists(client, namespace):
        if not create:
            raise ConfigurationError(
                f"TEMPORAL_NAMESPACE: {namespace!r} does not exist; create it, or set DISPATCHER_CREATE_NAMESPACE=true"
            )
        await create_namespace(client, namespace)
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


async def create_namespace(client: Client, namespace: str) -> None:
    """Create the namespace; another process may be faster."""
    request = RegisterNamespaceRequest(namespace=namespace, description="Notification delivery")
    request.workflow_execution_retention_period.FromTimedelta(NAMESPACE_RETENTION)
    with contextlib.suppress(RPCError):  # the caller looks again and tells what is wrong
        await client.workflow_service.register_namespace(request)
