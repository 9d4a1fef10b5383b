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

import anyio

from dispatcher import __version__, alerts, condition, metrics, temporal, worker
from dispatcher.activities import Deliveries
from dispatcher.backoff import MOST_RECONNECT, Backoff
from dispatcher.database import LOST, Pool, check_installed, open_pool, using
from dispatcher.dispatch import Door
from dispatcher.environment.conninfo import conninfo
from dispatcher.errors import Unreachable
from dispatcher.http.port import port
from dispatcher.install import grants, preflight
from dispatcher.install.names import parse
from dispatcher.listener import Deaf, Listener, check_listening
from dispatcher.logs import get_logger
from dispatcher.models import Policy
from dispatcher.novu import NovuGateway
from dispatcher.outbox import Outbox
from dispatcher.retraction import Retraction
from dispatcher.settings import Settings
from dispatcher.signals import stop_signal
from dispatcher.statements import Relations
from dispatcher.sweep import Sweep
from dispatcher.wake import Wake

DRAIN_SECONDS = 6.0
"""What runs is finished; with what takes longer the workers still get their grace."""

log = get_logger("app")


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises a `DispatcherError` when something needed does not answer at the start."""
    stop = stop_signal()
    node = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
    async with (
        alerts.telling(settings, node),
        port(settings, metrics.registry) as here,
        database(settings) as pool,
        gateway(settings) as novu,
    ):
        client = await temporal.connect(
            settings.temporal_environment,
            create_namespace=settings.create_namespace,
            metrics_at=settings.temporal_metrics,
        )
        outbox = await open_outbox(pool, settings, node)
        here.know(pool, outbox)
        policy = Policy(settings.lease, settings.max_runs, settings.retry_horizon)
        starter = temporal.Starter(client, settings.task_queue)
        wake = Wake()
        adaptive = settings.notify_mode == "adaptive"
        door = Door(
            outbox,
            starter,
            wake,
            novu.gate,
            lease=settings.lease,
            batch_size=settings.batch_size,
            adaptive=adaptive,
        )
        ears = await hearing(settings, pool, wake, node)
        sweep = Sweep(outbox, starter, wake, ears, interval=settings.sweep_interval, lease=settings.lease)
        retraction = Retraction(outbox, novu, lease=settings.lease, horizon=settings.retry_horizon)
        deliveries = Deliveries(outbox, novu, policy)
        async with (
            worker.running(client, settings, deliveries, build=__version__),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(door.run)
            tasks.start_soon(ears.run)
            tasks.start_soon(sweep.run)
            tasks.start_soon(novu.gate.run, wake)
            tasks.start_soon(starter.watch)
            tasks.start_soon(retraction.run)
            spare_the_collector()
            log.info("started", node=node, version=__version__, outbox=settings.outbox, queue=settings.task_queue)
            await stop.wait()
            log.info("stopping", node=node)
            condition.here.stopping = True
            await door.close()
            await drained(outbox)
            tasks.cancel_scope.cancel()
        await farewell(outbox, node)


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
async def gateway(settings: Settings) -> AsyncGenerator[NovuGateway]:
    """Open the gateway to Novu for the block, once something answers there."""
    novu = NovuGateway(
        settings.require_novu_key().get_secret_value(), settings.novu_api_url, texts=settings.error_texts == "full"
    )
    try:
        await novu.check()
        condition.whole("novu")
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
