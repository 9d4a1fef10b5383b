"""`dispatcher run --dry-run`: beside a system that still sends, logs what a dispatcher would send, and how soon.

Looks at what a claim could take, and reads and plans it as a run does. Never writes: every look is a read-only
transaction, Temporal and Novu are not spoken to, and a role that may only read is enough.
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

from dispatcher.app import run as app
from dispatcher.app.signals import stop_signal
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.decisions import validation
from dispatcher.decisions.call_planning import plan_calls
from dispatcher.install import preflight
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection
from dispatcher.postgres.session import apply_settings
from dispatcher.postgres.statements import TableNames, load_query, shared_parts
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger
from dispatcher.wakeup.signal import WakeUp
from dispatcher.web.backlog_metrics import SHARE
from dispatcher.web.server_app import serve_port

DUE_POLL_SECONDS = 1.0
"""Nobody tells us when a scheduled row becomes due."""
MIN_PAUSE_SECONDS = 0.05
MAX_DUE_ROWS = 100_000
"""So many due rows are looked at, and remembered as seen; of a larger backlog the newest."""
READ_BATCH_ROWS = 20
"""Read at once; each may have half a megabyte."""
READ_ONLY_SETTINGS = {"transaction_read_only": "on", "enable_bitmapscan": "on"}
"""Of each transaction. Two partial indexes in one scan, or one scan of the table where nothing is installed."""

log = get_logger("shadow")


async def run(settings: Settings) -> None:
    """Look until SIGTERM or SIGINT. Raises a `DispatcherError` when the outbox cannot be read."""
    stop = stop_signal()
    health.process_health.expect_components(["postgres", "listener"])
    wake = WakeUp()
    health_only = settings.model_copy(update={"http_api": False})
    async with serve_port(health_only), app.open_database(settings) as pool:
        shadow = DryRun(pool, settings)
        await shadow.check()
        ears = await app.open_listener(settings, pool, wake, f"shadow-{socket.gethostname()[:40]}-{os.getpid()}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ears.run)
            tasks.start_soon(shadow.run, wake)
            log.info("started", dry_run=True, outbox=settings.outbox)
            await stop.wait()
            tasks.cancel_scope.cancel()
        log.info("stopped", would_send=shadow.sent, would_refuse=shadow.refused)


class DryRun:
    """Looks at due rows, and remembers which it has told of: those that were due at the last look."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.sent = self.refused = 0
        self._pool = pool
        self._table = table = parse_outbox_name(settings.outbox)
        self._seen: set[int] = set()
        parts = shared_parts(TableNames(table.identifier, table.workflow.identifier))
        self._due = load_query("dry_run_due", **parts).as_bytes()
        self._rows = load_query("dry_run_rows", **parts).as_bytes()
        self._limits = {
            "limit": MAX_DUE_ROWS,
            "enterprises": [str(each) for each in settings.enterprise_ids],
            "all_enterprises": not settings.enterprise_ids,
        }

    async def check(self) -> None:
        """Raise `ConfigurationError` when there is no outbox that can be read whole, `Unreachable` without a server."""
        try:
            async with borrow_connection(self._pool) as connection:
                await preflight.check(connection, self._table)
            await self._read(self._due, **{**self._limits, "limit": 0})
            await self._read(self._rows, ids=[], max_bytes=0)
        except InsufficientPrivilege as error:
            reason = error.diag.message_primary
            raise ConfigurationError(f"{reason}: a dry run needs SELECT on the outbox and on its workflows") from error
        except CONNECTION_ERRORS as error:
            reason = " ".join(str(error).split())
            raise Unreachable(f"DATABASE_URL: PostgreSQL left us while we started: {reason}. Start again.") from error

    async def run(self, wake: WakeUp) -> None:
        """Look at every wake-up, and now and then without one; a lost database is waited for.

        What takes long is done seldom: the server looks for us a twentieth of the time at most.
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
        """Tell of the rows that became due since the last look; return the seconds that looking took."""
        began = time.monotonic()
        due = [row["id"] for row in await self._read(self._due, **self._limits)]
        took = time.monotonic() - began
        new = sorted(set(due) - self._seen)
        for first in range(0, len(new), READ_BATCH_ROWS):
            part = new[first : first + READ_BATCH_ROWS]
            for row in await self._read(self._rows, ids=part, max_bytes=validation.MAX_BYTES):
                self._log_rows(validation.parse_row(row))
            self._seen.update(part)
        self._seen.intersection_update(due)
        return took

    def _log_rows(self, taken: validation.AcquiredRow) -> None:
        row = taken.notification
        if not taken.eligible:
            return  # closed since we looked
        words = log.bind(
            notification_id=row.id, seconds=round(row.age_seconds, 3) if isfinite(row.age_seconds) else None
        )
        if row.validation_error is not None:
            self.refused += 1
            words.warning("would_refuse", reason=row.validation_error)
            return
        self.sent += 1
        words.info(
            "would_send", novu_workflow=row.workflow_key, recipients=len(row.recipients), calls=len(plan_calls([row]))
        )

    async def _read(self, statement: bytes, **parameters: Any) -> list[dict[str, Any]]:
        """Run one statement that cannot write, and return its rows."""
        async with borrow_connection(self._pool) as connection, connection.transaction():
            await apply_settings(connection, READ_ONLY_SETTINGS, local=True)
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement, parameters)
                return await cursor.fetchall()
