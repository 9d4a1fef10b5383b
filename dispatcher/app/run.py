"""Everything `dispatcher run` starts, on one screen.

The order is an argument: the door and the workers stand ready before the listener hears its first word, and the sweep
looks once LISTEN is in force. Stopping goes the other way: no new claims, drain, hand back, leave.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from temporalio.client import Client

from dispatcher import __version__
from dispatcher.alerting import alerts
from dispatcher.app.signals import stop_signal
from dispatcher.claim.claimer import Claimer
from dispatcher.claim.rescuer import Rescuer
from dispatcher.claim.worker_presence import LiveWorkers
from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.decisions.backoff import MAX_RECONNECT_DELAY, Backoff
from dispatcher.delivery import worker
from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.delivery.canceller import Canceller
from dispatcher.delivery.heartbeat import WorkerHeartbeat
from dispatcher.install import grants, preflight
from dispatcher.install.runtime_check import run_checks
from dispatcher.models.errors import Unreachable
from dispatcher.models.notification import RunLimits
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection, check_installed, open_pool
from dispatcher.postgres.statements import TableNames
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.health import COMPONENTS, Component
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.client import connect_to_namespace
from dispatcher.temporal.starter import WorkflowStarter
from dispatcher.wakeup.listener import Listener, PollOnly, check_listen_address
from dispatcher.wakeup.signal import WakeUp
from dispatcher.web.server_app import serve_port

Role = Literal["all", "dispatch", "worker"]
"""dispatch: claims and starts. worker: sends. They meet in the table of nodes. all: both in one process."""
COMPONENTS_OF: dict[Role, tuple[Component, ...]] = {
    "all": COMPONENTS,
    "dispatch": COMPONENTS,  # of Novu it knows what the workers say
    "worker": ("postgres", "outbox", "temporal", "novu"),
}
DRAIN_TIMEOUT_SECONDS = 6.0
"""What runs is finished; with what takes longer the workers still get their grace."""

log = get_logger("run")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the parts of this process share."""

    name: str
    role: Role
    settings: Settings
    pool: Pool
    outbox: OutboxStore
    starter: WorkflowStarter
    wake: WakeUp


async def run(settings: Settings, role: Role = "all") -> None:
    """Run until SIGTERM or SIGINT. Raises a `DispatcherError` when something needed does not answer at the start."""
    stop = stop_signal()
    health.process_health.expect_components(COMPONENTS_OF[role])
    name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
    async with (
        alerts.alerting(settings, name),
        serve_port(settings, metrics.registry) as here,
        open_database(settings) as pool,
        open_novu(settings, role) as novu,
    ):
        client = await connect_to_namespace(
            settings.temporal_environment,
            create_namespace=settings.create_namespace,
            metrics_at=settings.temporal_metrics,
        )
        outbox = await open_outbox(pool, settings, name)
        here.attach_database(pool, outbox)
        node = RunContext(name, role, settings, pool, outbox, WorkflowStarter(client, settings.task_queue), WakeUp())
        ears = None if role == "worker" else await open_listener(settings, pool, node.wake, name)
        async with temporal_workers(client, node, novu), anyio.create_task_group() as tasks:
            tasks.start_soon(node.starter.poll_health)
            tasks.start_soon(
                partial(run_checks, pool, parse_outbox_name(settings.outbox), triggers=isinstance(ears, Listener))
            )
            start_sending(node, novu, tasks)
            door = start_claiming(node, ears, novu, tasks) if ears else None
            freeze_gc()
            queue = settings.task_queue
            log.info("started", node=name, role=role, version=__version__, outbox=settings.outbox, queue=queue)
            await stop.wait()
            log.info("stopping", node=name)
            health.process_health.stopping = True
            if door is not None:
                await door.stop()
                await wait_drained(outbox)
            tasks.cancel_scope.cancel()
        if role == "worker":  # what Temporal gives us to do ends only with the workers
            await wait_drained(outbox)
        await release_node(outbox, name)


@asynccontextmanager
async def temporal_workers(client: Client, node: RunContext, novu: NovuClient | None) -> AsyncGenerator[None]:
    """Run the Temporal workers for the block, unless this process leaves sending to others."""
    if novu is None:
        yield
        return
    settings = node.settings
    deliveries = DeliveryActivities(
        node.outbox, novu, RunLimits(settings.lease, settings.max_runs, settings.retry_horizon)
    )
    async with worker.run_workers(client, settings, deliveries, build=__version__):
        yield


def start_sending(node: RunContext, novu: NovuClient | None, tasks: TaskGroup) -> None:
    """Start what goes beside the Temporal workers."""
    if novu is None:
        return
    retraction = Canceller(node.outbox, novu, lease=node.settings.lease, horizon=node.settings.retry_horizon)
    tasks.start_soon(novu.breaker.run, node.wake)
    tasks.start_soon(retraction.run)
    if node.role == "worker":
        tasks.start_soon(WorkerHeartbeat(node.outbox, novu.breaker).run)


def start_claiming(node: RunContext, ears: Listener | PollOnly, novu: NovuClient | None, tasks: TaskGroup) -> Claimer:
    """Start the door and what wakes it."""
    settings, outbox, starter, wake = node.settings, node.outbox, node.starter, node.wake
    workforce = LiveWorkers(outbox)
    door = Claimer(
        outbox,
        starter,
        wake,
        novu.breaker if novu else workforce,
        lease=settings.lease,
        batch_size=settings.batch_size,
        adaptive=settings.notify_mode == "adaptive",
    )
    sweep = Rescuer(
        outbox,
        starter,
        wake,
        ears,
        interval=settings.sweep_interval,
        lease=settings.lease,
        role=node.role,
        on_swept=lambda well: alerts.flush_counts(well=well),
    )
    if novu is None:
        tasks.start_soon(workforce.run, wake)
    tasks.start_soon(door.run)
    tasks.start_soon(ears.run)
    tasks.start_soon(sweep.run)
    return door


def freeze_gc() -> None:
    """Hide what was imported from the garbage collector: walking it stops everything for 80 ms now and then."""
    gc.collect()
    gc.freeze()


async def wait_drained(outbox: OutboxStore) -> None:
    """Return when this node holds no rows any more, or when it has taken too long."""
    with anyio.move_on_after(DRAIN_TIMEOUT_SECONDS), contextlib.suppress(*CONNECTION_ERRORS):
        while await outbox.count_leased():  # noqa: ASYNC110  (the fact is in the database)
            await asyncio.sleep(0.05)


async def release_node(outbox: OutboxStore, node: str) -> None:
    """Let go of what this node holds; without a database its leases do that."""
    try:
        log.info("stopped", node=node, handed_back=await outbox.release_node())
    except CONNECTION_ERRORS as error:
        log.warning("stopped_without_database", node=node, error=str(error))


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Pool]:
    """Open the pool for the block."""
    pool = await open_pool(conninfo(settings.database_url))
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


@asynccontextmanager
async def open_novu(settings: Settings, role: Role) -> AsyncGenerator[NovuClient | None]:
    """Open the gateway to Novu for the block, once something answers there; none where others send."""
    if role == "dispatch":
        yield None
        return
    novu = NovuClient(
        settings.require_novu_key().get_secret_value(),
        settings.novu_api_url,
        keep_error_texts=settings.error_texts == "full",
    )
    try:
        await novu.check_reachable()
        health.report_ok("novu")
        yield novu
    finally:
        await novu.aclose()


async def open_outbox(pool: Pool, settings: Settings, node: str) -> OutboxStore:
    """Return the outbox, once it is there and prepared."""
    table = parse_outbox_name(settings.outbox)
    try:
        async with borrow_connection(pool) as connection:
            await grants.require_rights(connection, table, await preflight.check(connection, table))
        status = await check_installed(pool, str(table))
    except CONNECTION_ERRORS as error:
        reason = " ".join(str(error).split())
        raise Unreachable(f"DATABASE_URL: PostgreSQL left us while we started: {reason}. Start again.") from error
    relations = TableNames(table.identifier, table.workflow.identifier)
    return OutboxStore(pool, relations=relations, status=status, node=node, enterprises=settings.enterprise_ids)


async def open_listener(settings: Settings, pool: Pool, wake: WakeUp, node: str) -> Listener | PollOnly:
    """Return the listener, or its stand-in when wake-ups are switched off."""
    if settings.notify_mode == "off":
        return PollOnly(wake)
    address = conninfo(settings.listen_url)
    await check_listen_address(address)
    return Listener(address, pool, wake, node, Backoff(settings.reconnect_delay, MAX_RECONNECT_DELAY))
