"""Reads a run's rows, so that a row whose reading ends the process stops no other row.

A row is suspected if the last try that read it has neither recorded a call nor ended. Suspects are read after all other
rows, each alone. A row that ended `MAX_READING_DEATHS` processes in this way is not read any more.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row

from dispatcher.decisions.validation import MAX_READING_DEATHS, AcquiredRow, parse_row
from dispatcher.models.notification import RowLimits
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool
from dispatcher.postgres.settling import SettlingStore
from dispatcher.telemetry.logs import get_logger

MAX_READ_BYTES = 4_000_000
"""Bytes of JSON and recipients that `acquire` returns at once. One more row may come with it."""

MAX_SECONDS_ALONE = 4.0
"""`acquire` reads rows alone for this time at once, because its activity sends no heartbeat meanwhile."""

ANY_ATTEMPT = 2**31 - 1
"""The content of a row is read however many attempts it had."""

MAX_LOGGED_ROWS = 20

log = get_logger("reading")

Row = dict[str, Any]


class ReadingStore(SettlingStore):
    """Acquires rows. `node`: this node's id. `limits`: what a row above them holds is not read."""

    def __init__(
        self, pool: Pool, queries: Mapping[str, bytes], labels: frozenset[str], node: str, limits: RowLimits
    ) -> None:
        super().__init__(pool, queries, labels)
        self._node = node
        self._limits = limits
        self._alone = asyncio.Lock()
        """While a suspect is read, no other one is read in this process: its death accuses one row only."""

    async def acquire(
        self,
        ids: Sequence[int],
        workflow_id: str,
        lease: timedelta,
        last_attempt: int = ANY_ATTEMPT,
        try_began: datetime | None = None,
    ) -> list[AcquiredRow]:
        """Acquire a workflow's rows under a new fence. Return some of them, up to MAX_READ_BYTES; none: none is left.

        Those with the lowest ids come first, and suspects last. Rows that are settled, no longer PROCESSING or of
        another workflow are left out. `last_attempt`: of a row with more attempts, payload and overrides are not read,
        because reading them may be what ended the attempts. `try_began`: the `read_at` of the try's first rows.
        """
        of_run = {"workflow_id": workflow_id, "node": self._node, "lease": lease}
        of_try = {"last_attempt": last_attempt, "try_began": try_began, "alone": None}
        of_row = {"max_bytes": self._limits.max_payload_bytes, "max_recipients": self._limits.max_recipients}
        most = {"max_deaths": MAX_READING_DEATHS, "max_read_bytes": MAX_READ_BYTES}
        parameters: dict[str, Any] = {"ids": list(ids), **of_run, **of_try, **of_row, **most}
        failure: Exception | None = None
        while True:
            rows = await self._execute("acquire", parameters, dict_row)
            acquired_at = time.monotonic()
            suspects = [row for row in rows if row["suspect"]]
            if failure is not None and not rows:
                raise failure
            if len(suspects) < len(rows) or not rows:
                return [parse_row(row, acquired_at, self._limits) for row in rows if not row["suspect"]]
            part = next_suspects(suspects)
            try:
                found = await self._read_suspects(part, parameters)
            except CONNECTION_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001  (raised after the rows behind these, which their size kept back)
                failure, found = error, []
            if found:
                return found
            passed = {row["notification_id"] for row in part}  # also those that another run or their owner has acquired
            parameters["ids"] = [each for each in parameters["ids"] if each not in passed]

    async def end_reading(self, ids: Sequence[int], fences: Sequence[int], *, read: bool = True) -> None:
        """Record that this process has not died of reading these rows. `read`: whether they were read.

        A lost connection is ignored: then they are read alone the next time.
        """
        with contextlib.suppress(*CONNECTION_ERRORS):
            await self._run("end_reading", ids=list(ids), fences=list(fences), read=read)

    async def _read_suspects(self, suspects: Sequence[Row], parameters: Mapping[str, Any]) -> list[AcquiredRow]:
        """Read rows one after the other, up to MAX_READ_BYTES or MAX_SECONDS_ALONE.

        A row whose reading fails, for example for want of memory, stops no other row. Raises its error if none is read.
        """
        ids = [row["notification_id"] for row in suspects]
        log.warning("reading_alone", rows=len(ids), notification_ids=ids[:MAX_LOGGED_ROWS])
        found: list[AcquiredRow] = []
        failure: Exception | None = None
        size, deadline = 0, time.monotonic() + MAX_SECONDS_ALONE
        for row in suspects:
            if size >= MAX_READ_BYTES or (found and time.monotonic() >= deadline):
                break
            try:
                found += await self._read_alone(row, parameters)
                size += row["payload_bytes"] + row["overrides_bytes"] + 36 * row["recipient_count"]
            except CONNECTION_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001  (raised if no row could be read)
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    async def _read_alone(self, row: Row, parameters: Mapping[str, Any]) -> list[AcquiredRow]:
        """Read one row. If this process dies of it, one more death is in the ledger."""
        notification_id, fence = row["notification_id"], row["fence"]
        one = {**parameters, "ids": [notification_id], "alone": fence}
        async with self._alone:
            read = False
            try:
                rows = await self._execute("acquire", one, dict_row)
                found = [parse_row(each, time.monotonic(), self._limits) for each in rows]
                read = True
            finally:  # also after an error: the process lives
                await self.end_reading([notification_id], [fence], read=read)
        return found


def next_suspects(suspects: Sequence[Row]) -> Sequence[Row]:
    """Return the suspects to read next: those that no process died of alone; else one, with the fewest deaths.

    So the rows that are innocent go out before the one that is not ends the process again.
    """
    untried = [row for row in suspects if not row["reading_deaths"]]
    return untried or [min(suspects, key=lambda row: row["reading_deaths"])]
