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
from dispatcher.claim.claimer import Door
from dispatcher.claim.rescuer import Sweep
from dispatcher.claim.worker_presence import Workforce
from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse
from dispatcher.decisions.backoff import MOST_RECONNECT, Backoff
from dispatcher.delivery import worker
from dispatcher.delivery.activities import Deliveries
from dispatcher.delivery.canceller import Retraction
from dispatcher.delivery.heartbeat import Presence
from dispatcher.install import grants, preflight
from dispatcher.install.runtime_check import watch
from dispatcher.models.errors import Unreachable
from dispatcher.models.notification import Policy
from dispatcher.novu.client import NovuGateway
from dispatcher.postgres.outbox import Outbox
from dispatcher.postgres.pool import LOST, Pool, check_installed, open_pool, using
from dispatcher.postgres.statements import Relations
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.health import PARTS, Part
from dispatcher.telemetry.logs import get_logger
from dispatcher.temporal.client import connect
from dispatcher.temporal.starter import Starter
from dispatcher.wakeup.listener import Deaf, Listener, check_listening
from dispatcher.wakeup.signal import Wake
from dispatcher.web.server_app import port

Role = Literal["all", "dispatch", "worker"]
"""dispatch: claims and starts. worker: sends. They meet in the table of nodes. all: both in one process."""
PARTS_OF: dict[Role, tuple[Part, ...]] = {
    "all": PARTS,
    "dispatch": PARTS,  # of Novu it knows what the workers say
    "worker": ("postgres", "outbox", "temporal", "novu"),
}
DRAIN_SECONDS = 6.0
"""What runs is finished; with what takes longer the workers still get their grace."""

log = get_logger("app")


@dataclass(frozen=True, slots=True)
class Node:
    """What the parts of this process share."""

    name: str
    role: Role
    settings: Settings
    pool: Pool
    outbox: Outbox
    starter: Starter
    wake: Wake


async def run(settings: Settings, role: Role = "all") -> None:
    """Run until SIGTERM or SIGINT. Raises a `DispatcherError` when something needed does not answer at the start."""
    stop = stop_signal()
    health.here.expect(PARTS_OF[role])
    name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
    async with (
        alerts.telling(settings, name),
        port(settings, metrics.registry) as here,
        database(settings) as pool,
        gateway(settings, role) as novu,
    ):
        client = await connect(
            settings.temporal_environment,
            create_namespace=settings.create_namespace,
            metrics_at=settings.temporal_metrics,
        )
        outbox = await open_outbox(pool, settings, name)
        here.know(pool, outbox)
        node = Node(name, role, settings, pool, outbox, Starter(client, settings.task_queue), Wake())
        ears = None if role == "worker" else await hearing(settings, pool, node.wake, name)
        async with working(client, node, novu), anyio.create_task_group() as tasks:
            tasks.start_soon(node.starter.watch)
            tasks.start_soon(partial(watch, pool, parse(settings.outbox), triggers=isinstance(ears, Listener)))
            start_sending(node, novu, tasks)
            door = start_claiming(node, ears, novu, tasks) if ears else None
            spare_the_collector()
            queue = settings.task_queue
            log.info("started", node=name, role=role, version=__version__, outbox=settings.outbox, queue=queue)
            await stop.wait()
            log.info("stopping", node=name)
            health.here.stopping = True
            if door is not None:
                await door.close()
                await drained(outbox)
            tasks.cancel_scope.cancel()
        if role == "worker":  # what Temporal gives us to do ends only with the workers
            await drained(outbox)
        await farewell(outbox, name)


@asynccontextmanager
async def working(client: Client, node: Node, novu: NovuGateway | None) -> AsyncGenerator[None]:
    """Run the Temporal workers for the block, unless this process leaves sending to others."""
    if novu is None:
        yield
        return
    settings = node.settings
    deliveries = Deliveries(node.outbox, novu, Policy(settings.lease, settings.max_runs, settings.retry_horizon))
    async with worker.running(client, settings, deliveries, build=__version__):
        yield


def start_sending(node: Node, novu: NovuGateway | None, tasks: TaskGroup) -> None:
    """Start what goes beside the Temporal workers."""
    if novu is None:
        return
    retraction = Retraction(node.outbox, novu, lease=node.settings.lease, horizon=node.settings.retry_horizon)
    tasks.start_soon(novu.gate.run, node.wake)
    tasks.start_soon(retraction.run)
    if node.role == "worker":
        tasks.start_soon(Presence(node.outbox, novu.gate).run)


def start_claiming(node: Node, ears: Listener | Deaf, novu: NovuGateway | None, tasks: TaskGroup) -> Door:
    """Start the door and what wakes it."""
    settings, outbox, starter, wake = node.settings, node.outbox, node.starter, node.wake
    workforce = Workforce(outbox)
    door = Door(
        outbox,
        starter,
        wake,
        novu.gate if novu else workforce,
        lease=settings.lease,
        batch_size=settings.batch_size,
        adaptive=settings.notify_mode == "adaptive",
    )
    sweep = Sweep(
        outbox,
        starter,
        wake,
        ears,
        interval=settings.sweep_interval,
        lease=settings.lease,
        role=node.role,
        on_swept=lambda well: alerts.swept(well=well),
    )
    if novu is None:
        tasks.start_soon(workforce.run, wake)
    tasks.start_soon(door.run)
    tasks.start_soon(ears.run)
    tasks.start_soon(sweep.run)
    return door


def spare_the_collector() -> None:
    """Hide what was imported from the garbage collector: walking it stops everything for 80 ms now and then."""
    gc.collect()
    gc.freeze()


async def drained(outbox: Outbox) -> None:
    """Return when this node holds no rows any more, or when it has taken too long."""
    with anyio.move_on_after(DRAIN_SECONDS), contextlib.suppress(*LOST):
        while await outbox.in_flight():  # noqa: ASYNC110  (the fact is in the database)
            await asyncio.sleep(0.05)


async def farewell(outbox: Outbox, node: str) -> None:
    """Let go of what this node holds; without a database its leases do that."""
    try:
        log.info("stopped", node=node, handed_back=await outbox.farewell())
    except LOST as error:
        log.warning("stopped_without_database", node=node, error=str(error))


@asynccontextmanager
async def database(settings: Settings) -> AsyncGenerator[Pool]:
    """Open the pool for the block."""
    pool = await open_pool(conninfo(settings.database_url))
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


@asynccontextmanager
async def gateway(settings: Settings, role: Role) -> AsyncGenerator[NovuGateway | None]:
    """Open the gateway to Novu for the block, once something answers there; none where others send."""
    if role == "dispatch":
        yield None
        return
    novu = NovuGateway(
        settings.require_novu_key().get_secret_value(), settings.novu_api_url, texts=settings.error_texts == "full"
    )
    try:
        await novu.check()
        health.whole("novu")
        yield novu
    finally:
        await novu.aclose()


async def open_outbox(pool: Pool, settings: Settings, node: str) -> Outbox:
    """Return the outbox, once it is there and prepared."""
    table = parse(settings.outbox)
    try:
        async with using(pool) as connection:
            await grants.require(connection, table, await preflight.check(connection, table))
        status = await check_installed(pool, str(table))
    except LOST as error:
        reason = " ".join(str(error).split())
        raise Unreachable(f"DATABASE_URL: PostgreSQL left us while we started: {reason}. Start again.") from error
    relations = Relations(table.identifier, table.workflow.identifier)
    return Outbox(pool, relations=relations, status=status, node=node, enterprises=settings.enterprise_ids)


async def hearing(settings: Settings, pool: Pool, wake: Wake, node: str) -> Listener | Deaf:
    """Return the listener, or its stand-in when wake-ups are switched off."""
    if settings.notify_mode == "off":
        return Deaf(wake)
    address = conninfo(settings.listen_url)
    await check_listening(address)
    return Listener(address, pool, wake, node, Backoff(settings.reconnect_delay, MOST_RECONNECT))
