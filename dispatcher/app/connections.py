"""Opens what a process works with: the pool, the outbox, the listener and Novu's client. The processes use it.

Everything here raises a `DispatcherError` with the remedy if a server does not answer or refuses us at the start.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.decisions.backoff import MAX_RECONNECT_DELAY, Backoff
from dispatcher.install import grants, ledger_version, preflight
from dispatcher.models.errors import Unreachable
from dispatcher.models.notification import RowLimits
from dispatcher.models.workflow_contract import TaskQueues
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.installation import Installation, require_own_database, require_own_outbox
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection, check_installed, open_pool
from dispatcher.postgres.restore_guard import RestoreGuard
from dispatcher.postgres.statements import TableNames
from dispatcher.telemetry import health
from dispatcher.wakeup.listener import Listener, PollOnly, check_listen_address
from dispatcher.wakeup.signal import WakeUp


@asynccontextmanager
async def open_database(settings: Settings, guard: RestoreGuard | None = None) -> AsyncGenerator[Pool]:
    """Open the pool for the block. `guard` compares each new connection's database with what this process knows."""
    pool = await open_pool(conninfo(settings.database_url), check=guard.check if guard else None)
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


@asynccontextmanager
async def open_novu(settings: Settings) -> AsyncGenerator[NovuClient]:
    """Open Novu's client for the block, as soon as Novu answers."""
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


async def open_outbox(pool: Pool, settings: Settings, node: str, guard: RestoreGuard | None = None) -> OutboxStore:
    """Return the outbox for `node`, after checking that tables, columns, rights and the ledger are there.

    From then on `guard` is enabled.
    """
    table = parse_outbox_name(settings.outbox)
    try:
        async with borrow_connection(pool) as connection:
            await grants.require_rights(connection, table, await preflight.check(connection, table))
            await require_own_outbox(connection, str(table))
        status = await check_installed(pool, str(table))
        async with borrow_connection(pool) as connection:
            await ledger_version.require_current(connection)
            if guard is not None:
                await guard.enable(connection)
    except CONNECTION_ERRORS as error:
        reason = " ".join(str(error).split())
        raise Unreachable(
            f"DATABASE_URL: PostgreSQL closed the connection during the start: {reason}. Start again."
        ) from error
    relations = TableNames(table.identifier, table.workflow.identifier)
    outbox = OutboxStore(
        pool,
        relations=relations,
        status=status,
        node=node,
        enterprises=settings.enterprise_ids,
        limits=row_limits(settings),
    )
    if guard is not None:
        outbox.guard = guard
    return outbox


def row_limits(settings: Settings) -> RowLimits:
    """Return the limits of what is read of one row."""
    return RowLimits(settings.max_recipients, int(settings.max_payload))


async def open_installation(pool: Pool, settings: Settings) -> Installation:
    """Return which installation the database holds. Raises ConfigurationError if the database may be a copy."""
    async with borrow_connection(pool) as connection:
        return await require_own_database(connection, settings.installation)


def queues_of(settings: Settings, installation: Installation) -> TaskQueues:
    """Return the task queues of the installation."""
    return TaskQueues.of_installation(settings.task_queue, installation.id)


async def open_listener(settings: Settings, pool: Pool, wake: WakeUp, node: str) -> Listener | PollOnly:
    """Return the listener, or with DISPATCHER_NOTIFY_MODE=off a poller in its place."""
    if settings.notify_mode == "off":
        return PollOnly(wake)
    address = conninfo(settings.listen_url)
    await check_listen_address(address)
    return Listener(address, pool, wake, node, Backoff(settings.reconnect_delay, MAX_RECONNECT_DELAY))
