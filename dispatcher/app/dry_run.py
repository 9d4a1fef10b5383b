"""`dispatcher run --dry-run`: beside a system that still sends, logs what a dispatcher would send, and how soon.

It finds the rows that a claim could take, and reads and plans them as a run does. It never writes: every transaction is
read-only, it calls neither Temporal nor Novu, and a role that may only read is enough.
"""

import asyncio
import contextlib
import os
import socket
import time
from math import isfinite
from typing import Any

import anyio
from psycopg.errors import InsufficientPrivilege, QueryCanceled
from psycopg.rows import dict_row

from dispatcher.app.connections import open_database, open_listener, row_limits
from dispatcher.app.event_loop import running_loop
from dispatcher.app.signals import stop_signal
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.decisions import validation
from dispatcher.decisions.call_planning import plan_calls
from dispatcher.install import preflight
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection
from dispatcher.postgres.session import pinned_transaction
from dispatcher.postgres.statements import TableNames, load_query, shared_parts
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import WakeUp
from dispatcher.web.backlog_metrics import SHARE
from dispatcher.web.server_app import serve_port

DUE_POLL_SECONDS = 1.0
"""No NOTIFY tells when a scheduled row becomes due, so the table is polled as well."""
MIN_PAUSE_SECONDS = 0.05
MAX_DUE_ROWS = 100_000
"""Due rows that are read and remembered as logged; of a larger backlog the newest."""
READ_BATCH_BYTES = 10 * 1024 * 1024
"""The largest rows that are read at once have so many bytes together."""
READ_ONLY_SETTINGS = {"transaction_read_only": "on", "enable_bitmapscan": "on"}
"""Of each transaction. Bitmap scans combine our two partial indexes. Where none is installed, the table is scanned."""

log = get_logger("dry_run")


async def run(settings: Settings) -> None:
    """Log due rows until SIGTERM or SIGINT. Raises a `DispatcherError` if the outbox cannot be read."""
    stop = stop_signal()
    health.process_health.expect_components(["postgres", "listener"])
    wake = WakeUp()
    name = f"dry-run-{socket.gethostname()[:40]}-{os.getpid()}"
    health_only = settings.model_copy(update={"http_api": False})
    async with serve_port(health_only), open_database(settings) as pool:
        dry_run = DryRun(pool, settings)
        await dry_run.check()
        listener = await open_listener(settings, pool, wake, name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.run)
            tasks.start_soon(dry_run.run, wake)
            log.info("started", dry_run=True, outbox=settings.outbox, loop=running_loop())
            await stop.wait()
            tasks.cancel_scope.cancel()
        log.info("stopped", would_send=dry_run.sent, would_refuse=dry_run.refused)


class DryRun:
    """Finds due rows and logs each once. `sent` and `refused` count the rows that would be sent or never can be."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.sent = self.refused = 0
        self._pool = pool
        self._row_limits = row_limits(settings)
        self._batch_rows = max(1, READ_BATCH_BYTES // self._row_limits.max_payload_bytes)
        self._table = table = parse_outbox_name(settings.outbox)
        self._logged: set[int] = set()
        parts = shared_parts(TableNames(table.identifier, table.workflow.identifier))
        self._due = load_query("dry_run_due", **parts).as_bytes()
        self._rows = load_query("dry_run_rows", **parts).as_bytes()
        self._limits = {
            "limit": MAX_DUE_ROWS,
            "enterprises": [str(each) for each in settings.enterprise_ids],
            "all_enterprises": not settings.enterprise_ids,
        }

    async def check(self) -> None:
        """Raise `ConfigurationError` if the outbox cannot be read as a whole, `Unreachable` without a server."""
        try:
            async with borrow_connection(self._pool) as connection:
                await preflight.check(connection, self._table)
            await self._read(self._due, **{**self._limits, "limit": 0})
            await self._read(self._rows, ids=[], last_attempt=1, max_bytes=0, max_recipients=0)
        except InsufficientPrivilege as error:
            reason = error.diag.message_primary
            raise ConfigurationError(f"{reason}: a dry run needs SELECT on the outbox and on its workflows") from error
        except CONNECTION_ERRORS as error:
            reason = " ".join(str(error).split())
            raise Unreachable(
                f"DATABASE_URL: PostgreSQL closed the connection during the start: {reason}. Start again."
            ) from error

    async def run(self, wake: WakeUp) -> None:
        """Run once at every wake-up and at least every second. A lost connection only makes it wait.

        After a slow query it pauses longer, so that the server works for it at most a twentieth of the time.
        """
        while True:
            wake.clear()
            began, took = time.monotonic(), 0.0
            try:
                took = await self.run_once()
                health.report_ok("postgres")
            except CONNECTION_ERRORS as error:
                if isinstance(error, QueryCanceled):
                    took = time.monotonic() - began
                health.report_failure("postgres", f"{type(error).__name__}: {error}")
            await asyncio.sleep(max(MIN_PAUSE_SECONDS, SHARE * took))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DUE_POLL_SECONDS):
                    await wake.wait()

    async def run_once(self) -> float:
        """Log the rows that became due since the last time. Return the seconds that the query for due rows took."""
        began = time.monotonic()
        due = [row["id"] for row in await self._read(self._due, **self._limits)]
        took = time.monotonic() - began
        new = sorted(set(due) - self._logged)
        for first in range(0, len(new), self._batch_rows):
            ids = new[first : first + self._batch_rows]
            for row in await self._read(
                self._rows,
                ids=ids,
                last_attempt=1,
                max_bytes=self._row_limits.max_payload_bytes,
                max_recipients=self._row_limits.max_recipients,
            ):
                self._log_row(validation.parse_row(row, limits=self._row_limits))
            self._logged.update(ids)
        self._logged.intersection_update(due)
        return took

    def _log_row(self, read: validation.AcquiredRow) -> None:
        row = read.notification
        if not read.eligible:
            return  # closed since the query for due rows
        age = round(row.age_seconds, 3) if isfinite(row.age_seconds) else None
        logger = log.bind(notification_id=row.id, seconds=age)
        if row.validation_error is not None:
            self.refused += 1
            logger.warning("would_refuse", reason=row.validation_error)
            return
        self.sent += 1
        calls = len(plan_calls([row]))
        logger.info("would_send", novu_workflow=row.workflow_key, recipients=len(row.recipients), calls=calls)

    async def _read(self, statement: bytes, **parameters: Any) -> list[dict[str, Any]]:
        """Run one statement in a read-only transaction, and return its rows."""
        async with (
            borrow_connection(self._pool) as connection,
            pinned_transaction(connection, READ_ONLY_SETTINGS),
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()
