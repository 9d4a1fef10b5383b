"""Everything that `dispatcher run` starts, on one screen.

The order matters: Temporal workers and claim loop start before LISTEN, and the listener wakes the claim loop once
LISTEN is in force, so that no commit falls between. Stopping goes the other way: claim nothing more, let runs finish,
release the other rows, delete this node.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from temporalio.client import Client

from dispatcher import __version__
from dispatcher.alerting import alerts
from dispatcher.app.connections import (
    open_database,
    open_listener,
    open_novu,
    open_outbox,
    queues_of,
)
from dispatcher.app.event_loop import running_loop
from dispatcher.app.own_database import wait_for_own_database
from dispatcher.app.signals import stop_signal
from dispatcher.claim.claimer import Claimer
from dispatcher.claim.pruner import Pruner
from dispatcher.claim.rescuer import Rescuer
from dispatcher.claim.worker_presence import LiveWorkers
from dispatcher.config.ledger_retention import pruning_age
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.delivery import worker
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.delivery.canceller import Canceller
from dispatcher.delivery.heartbeat import WorkerHeartbeat
from dispatcher.install.runtime_check import run_checks
from dispatcher.models.notification import RunLimits
from dispatcher.models.workflow_contract import TaskQueues, worker_identity
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.installation import Installation
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool
from dispatcher.postgres.pruning import LedgerPruning
from dispatcher.postgres.restore_guard import RestoreGuard
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.labels import COMPONENTS, Component
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.client import connect_to_namespace
from dispatcher.temporal.runs_in_flight import BLIND_GATHER_SECONDS, GATHER_SECONDS, RunsInFlight
from dispatcher.temporal.starter import WorkflowStarter
from dispatcher.wakeup.listener import Listener, PollOnly
from dispatcher.wakeup.signal import WakeUp
from dispatcher.web.server_app import serve_port

Role = Literal["all", "dispatch", "worker"]
"""dispatch: claims rows and starts workflows. worker: sends. all: both. Split roles meet in the table `node`."""
COMPONENTS_OF: dict[Role, tuple[Component, ...]] = {
    "all": COMPONENTS,
    "dispatch": tuple(name for name in COMPONENTS if name != "retraction"),
    "worker": ("postgres", "outbox", "temporal", "novu", "retraction"),
}
"""Retractions are cancelled by the processes that call Novu."""
DRAIN_TIMEOUT_SECONDS = 6.0
"""Runs that need longer still get the grace period of the Temporal workers."""

log = get_logger("run")


@dataclass(frozen=True, slots=True)
class RunContext:
    """The objects that the parts of this process share. `novu` is None if other processes send."""

    name: str
    role: Role
    settings: Settings
    pool: Pool
    outbox: OutboxStore
    installation: Installation
    queues: TaskQueues
    starter: WorkflowStarter
    wake: WakeUp
    runs: RunsInFlight
    novu: NovuClient | None


async def run(settings: Settings, role: Role = "all") -> None:
    """Run until SIGTERM or SIGINT. Raises a `DispatcherError` if a server does not answer at the start."""
    stop = stop_signal()
    health.process_health.expect_components(COMPONENTS_OF[role])
    name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(alerts.alerting(settings, name))
        port = await exits.enter_async_context(serve_port(settings, metrics.registry))
        guard = RestoreGuard()
        pool = await exits.enter_async_context(open_database(settings, guard))
        novu = None if role == "dispatch" else await exits.enter_async_context(open_novu(settings))
        client = await connect_to_namespace(
            settings.temporal_environment,
            create_namespace=settings.create_namespace,
            retention=settings.namespace_retention,
            metrics_at=settings.temporal_metrics,
        )
        outbox = await open_outbox(pool, settings, name, guard)
        port.attach_database(pool, outbox)
        installation = await wait_for_own_database(pool, settings, stop)
        if installation is None:
            return
        queues = queues_of(settings, installation)
        starter = WorkflowStarter(client, queues)
        runs = RunsInFlight(GATHER_SECONDS if novu else BLIND_GATHER_SECONDS)
        context = RunContext(name, role, settings, pool, outbox, installation, queues, starter, WakeUp(), runs, novu)
        await run_parts(context, client, stop)
        await release_node(context)


async def run_parts(context: RunContext, client: Client, stop: asyncio.Event) -> None:
    """Start the parts of the process's role, wait for `stop`, and stop them in order."""
    settings, outbox, listener = context.settings, context.outbox, None
    if context.role != "worker":
        listener = await open_listener(settings, context.pool, context.wake, context.name)
    async with temporal_workers(client, context), anyio.create_task_group() as tasks:
        start_checks(context, tasks, triggers=isinstance(listener, Listener))
        start_sending(context, tasks)
        claimer = start_claiming(context, listener, tasks) if listener else None
        freeze_gc()
        node = {"node": context.name, "role": context.role, "version": __version__, "loop": running_loop()}
        log.info("started", **node, outbox=settings.outbox, queue=context.queues.first_try)
        await stop.wait()
        log.info("stopping", node=context.name)
        health.process_health.stopping = True
        if claimer is not None:
            await claimer.stop()
            await wait_drained(outbox)
        tasks.cancel_scope.cancel()
    if context.role == "worker":  # Temporal gives this process work until its workers have stopped
        await wait_drained(outbox)


@asynccontextmanager
async def temporal_workers(client: Client, context: RunContext) -> AsyncGenerator[None]:
    """Run the Temporal workers for the block, unless other processes send."""
    if context.novu is None:
        yield
        return
    settings = context.settings
    limits = RunLimits(settings.lease, settings.max_runs, settings.retry_horizon, settings.lookup_time)
    activities = DeliveryActivities(context.outbox, context.novu, limits)
    identity = worker_identity(context.name, context.installation.id)
    parts = worker.WorkerParts(client, settings, activities, context.outbox, context.runs, identity, __version__)
    async with worker.run_workers(parts, context.queues):
        yield


def start_checks(context: RunContext, tasks: TaskGroup, *, triggers: bool) -> None:
    """Start the checks of Temporal and of the outbox. `triggers`: whether the triggers' NOTIFY is needed."""
    table = parse_outbox_name(context.settings.outbox)
    tasks.start_soon(context.starter.poll_health)
    tasks.start_soon(partial(run_checks, context.pool, table, triggers=triggers))


def start_sending(context: RunContext, tasks: TaskGroup) -> None:
    """Start the parts beside the Temporal workers: circuit breaker, canceller, and a separate worker's heartbeat."""
    if context.novu is None:
        return
    lease, horizon = context.settings.lease, context.settings.retry_horizon
    tasks.start_soon(context.novu.breaker.run, context.wake)
    tasks.start_soon(Canceller(context.outbox, context.novu, lease=lease, horizon=horizon).run)
    if context.role == "worker":
        tasks.start_soon(WorkerHeartbeat(context.outbox, context.novu.breaker).run)


def start_claiming(context: RunContext, listener: Listener | PollOnly, tasks: TaskGroup) -> Claimer:
    """Start the claim loop and its sources of wake-ups: the listener and the sweep."""
    settings, outbox, starter, wake = context.settings, context.outbox, context.starter, context.wake
    live_workers = LiveWorkers(outbox)
    claimer = Claimer(
        outbox,
        starter,
        wake,
        context.novu.breaker if context.novu else live_workers,
        context.runs,
        lease=settings.lease,
        batch_size=settings.batch_size,
        adaptive=settings.notify_mode == "adaptive",
    )
    rescuer = Rescuer(
        outbox,
        starter,
        wake,
        listener,
        interval=settings.sweep_interval,
        lease=settings.lease,
        role=context.role,
        on_swept=lambda well: alerts.flush_counts(well=well),
    )
    if context.novu is None:
        tasks.start_soon(live_workers.run, wake)
    tasks.start_soon(claimer.run)
    tasks.start_soon(listener.run)
    tasks.start_soon(rescuer.run)
    start_pruning(context, tasks)
    return claimer


def start_pruning(context: RunContext, tasks: TaskGroup) -> None:
    """Start to prune the ledger, unless its retention is off."""
    age = pruning_age(context.settings)
    if age is not None:
        outbox = parse_outbox_name(context.settings.outbox).identifier
        tasks.start_soon(Pruner(LedgerPruning(context.pool, outbox, age=age, node=context.name)).run)


def freeze_gc() -> None:
    """Exempt the imported modules from garbage collection, which would stop the process for 80 ms now and then."""
    gc.collect()
    gc.freeze()


async def wait_drained(outbox: OutboxStore) -> None:
    """Return when this node leases no rows any more, or after 6 s."""
    with anyio.move_on_after(DRAIN_TIMEOUT_SECONDS), contextlib.suppress(*CONNECTION_ERRORS):
        while await outbox.count_leased():  # noqa: ASYNC110  (the fact is in the database)
            await asyncio.sleep(0.05)


async def release_node(context: RunContext) -> None:
    """Release the rows that this node still holds, and delete the node. Without a database their leases expire."""
    try:
        log.info("stopped", node=context.name, handed_back=await context.outbox.release_node())
    except CONNECTION_ERRORS as error:
        log.warning("stopped_without_database", node=context.name, error=str(error))
