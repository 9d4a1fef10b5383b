"""Notices that the database has lost its newest commits: a failover to a standby that lagged, or a restore.

A restored database cannot prove its own loss. So this process compares two facts with it at each new connection: the
timeline of the WAL, which a failover and a point-in-time restore change, and the fence of the row for which this
process recorded its last call. If one differs, `dispatcher.installation.restored_at` gets the present time. Rows that
were due before that time are looked up at Novu before their first call (`decisions/validation.py`).

A restore that keeps the timeline (a snapshot of the disk) while no process runs is not noticed: an operator runs
`dispatcher db after-restore`.
"""

import asyncio
import contextlib
import time
from typing import Any, NamedTuple

from psycopg import AsyncConnection, errors, sql

from dispatcher.models.notification import Notification
from dispatcher.postgres.statements import load_query
from dispatcher.telemetry.logs import get_logger

TIMELINE = sql.SQL(
    "case when not pg_catalog.pg_is_in_recovery()"
    " then pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) end"
)
UNKNOWN_TIMELINE = sql.SQL("null::text")
"""Some hosts withhold the functions that tell the timeline. Then only the fence is compared."""

NEVER_PRUNED_SECONDS = 86_400.0
"""For at least this time after a call, pruning leaves the row's head in the ledger. After that it may be missing."""

NOT_COMPARABLE = (
    errors.InsufficientPrivilege,
    errors.UndefinedFunction,
    errors.FeatureNotSupported,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
)

RECORD_RESTORE = """
update dispatcher.installation
set timeline = coalesce(%(timeline)s, timeline),
  restored_at = case when %(lost)s then clock_timestamp() else restored_at end
"""

log = get_logger("restore_guard")


class Comparison(NamedTuple):
    """The row of compare_restore.sql. `stored` and `timeline` are None if they are not known."""

    is_standby: bool
    stored: str | None
    timeline: str | None
    fence_lost: bool


class RestoreGuard:
    """Compares each new connection's database with what this process knows, from `enable` on."""

    def __init__(self) -> None:
        self._enabled = False
        self._timeline_known = True
        self._last_call: tuple[int, int] | None = None
        self._called_at = 0.0
        self._one_at_a_time = asyncio.Lock()

    def remember_call(self, row: Notification) -> None:
        """Remember the row of a call that the database has recorded durably."""
        self._last_call, self._called_at = (row.id, row.fence), time.monotonic()

    async def enable(self, connection: AsyncConnection[Any]) -> None:
        """Begin to compare, with this connection first."""
        self._enabled = True
        await self.check(connection)

    async def check(self, connection: AsyncConnection[Any]) -> None:
        """Compare, and record a loss in the database. A standby is not compared: it may lag."""
        if self._enabled:
            async with self._one_at_a_time:  # else several new connections would notice the same loss
                await self._check(connection)

    async def _check(self, connection: AsyncConnection[Any]) -> None:
        compared = await self._compare(connection)
        if compared is None or compared.is_standby:
            return
        stored, timeline = compared.stored, compared.timeline
        timeline_changed = None not in (stored, timeline) and stored != timeline
        lost = compared.fence_lost or timeline_changed
        if not (lost or (stored is None and timeline is not None)):
            return
        await connection.execute(RECORD_RESTORE, {"timeline": timeline, "lost": lost})
        self._last_call = None
        if lost:
            log.warning(
                "database_lost_commits",
                evidence="timeline" if timeline_changed else "fence",
                timeline=timeline,
                effect="rows that were due before now are looked up at Novu before their first call",
            )

    async def _compare(self, connection: AsyncConnection[Any]) -> Comparison | None:
        """Compare. None: a table or a right is missing, which the next statement of ours names."""
        notification_id, fence = self._last_call or (None, None)
        prunable = time.monotonic() - self._called_at > NEVER_PRUNED_SECONDS
        known = {"id": notification_id, "fence": fence, "prunable": prunable}
        for timeline in (TIMELINE, UNKNOWN_TIMELINE) if self._timeline_known else (UNKNOWN_TIMELINE,):
            with contextlib.suppress(*NOT_COMPARABLE):
                async with connection.transaction():  # an error must not end the transaction around it
                    cursor = await connection.execute(load_query("compare_restore", timeline=timeline), known)
                    row = await cursor.fetchone()
                if self._timeline_known and timeline is UNKNOWN_TIMELINE:
                    log.info("timeline_unknown", effect="a restore is noticed by the fence of the last call only")
                    self._timeline_known = False
                return row and Comparison(*row)
        return None
