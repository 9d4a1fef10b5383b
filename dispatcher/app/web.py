"""Everything that `dispatcher web` starts: the port and the connection to the database. It needs no contact with `run`.

The port listens before the database is connected: a platform gives a routed process a minute to listen, and /status has
to report a database that does not answer.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial

import anyio

from dispatcher.alerting import alerts
from dispatcher.app.signals import stop_signal
from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install import ledger_version
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.postgres.installation import require_own_database, require_own_outbox
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.periodic import run_every
from dispatcher.postgres.pool import Pool, borrow_connection, check_installed, open_pool
from dispatcher.postgres.statements import TableNames
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger
from dispatcher.web.server_app import ServedPort, serve_port

DATABASE_POLL_SECONDS = 5.0
POOL_SIZE = 4

log = get_logger("web")


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with alerts.alerting(settings, f"web-{os.getpid()}"):
        await serve(settings, stop_signal())


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    health.process_health.expect_components(["postgres"])
    async with AsyncExitStack() as opened:
        here = await opened.enter_async_context(serve_port(settings))
        check_exposure(settings, private=here.private)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll_database, settings, here)
            await stop.wait()
            health.process_health.stopping = True
            await opened.aclose()  # the port before the database, which the last answers need
            tasks.cancel_scope.cancel()
    log.info("stopped")


def check_exposure(settings: Settings, *, private: bool) -> None:
    """Refuse to listen beyond loopback without a token. Warn if the platform's router cannot reach the port."""
    if not private and settings.http_token is None:
        raise ConfigurationError(
            f"DISPATCHER_HTTP_TOKEN is not set, and others can reach {settings.http_host}: set it to 16 characters or"
            " more, such as openssl rand -hex 32, or set DISPATCHER_HTTP_HOST=127.0.0.1"
        )
    if private and os.environ.get("DYNO"):
        log.warning("nobody_can_reach_us", hint="set DISPATCHER_HTTP_HOST=0.0.0.0 and DISPATCHER_HTTP_TOKEN")


async def poll_database(settings: Settings, here: ServedPort) -> None:
    """Connect, then query every 5 s, so that readiness knows the database's state before anybody asks for /status."""
    async with AsyncExitStack() as exits:
        poll = partial(query_backlog, settings, here, exits)
        await run_every(DATABASE_POLL_SECONDS, poll, component="postgres", failure_event="database_poll_failed")


async def query_backlog(settings: Settings, here: ServedPort, exits: AsyncExitStack) -> None:
    """Query the backlog; connect first if there is no pool yet. Raises `Unreachable` without an answer."""
    numbers = here.numbers
    if numbers.outbox is None:
        here.attach_database(*await connect(settings, exits))
    await numbers.read()
    if numbers.is_stale or numbers.error:
        raise Unreachable(numbers.error or "does not answer")


async def connect(settings: Settings, exits: AsyncExitStack) -> tuple[Pool, OutboxStore]:
    """Return the pool and the outbox to read. Raises a `DispatcherError` while the database is away or not prepared."""
    table = parse_outbox_name(settings.outbox)
    async with AsyncExitStack() as attempt:
        pool = await open_pool(conninfo(settings.database_url), size=POOL_SIZE)
        attempt.push_async_callback(pool.close, timeout=2)
        status = await check_installed(pool, str(table))
        async with borrow_connection(pool) as connection:
            await require_own_outbox(connection, str(table))
            await ledger_version.require_current(connection)
            await require_own_database(connection, settings.installation)
        exits.push_async_exit(attempt.pop_all())
    relations = TableNames(table.identifier, table.workflow.identifier)
    return pool, OutboxStore(pool, relations=relations, status=status, node="", enterprises=settings.enterprise_ids)
