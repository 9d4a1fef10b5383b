"""Statements over many rows of which the table may refuse one: the row is recorded in the ledger, and all others go on.

A refused row is a dead letter with PostgreSQL's own words, and its row in the outbox stays as it is. After an update by
its owner it is tried again. See `halving.py` for how it is found.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from dispatcher.postgres.halving import Halved, Run, may_be_one_rows_fault, run_halving, words_of
from dispatcher.postgres.pool import borrow_connection
from dispatcher.postgres.statement_runner import StatementRunner
from dispatcher.telemetry.logs import get_logger

log = get_logger("refused_rows")

MAX_CLAIM_SEARCHES = 3
"""How often a claim looks for refused rows before it raises the error. Each search finds up to MAX_REFUSED_ROWS."""


class RowVersion(NamedTuple):
    """A row of the outbox as a statement met it. `version` is another one after any update."""

    id: int
    version: str


RefusedRow = tuple[RowVersion, psycopg.Error]


class Found(NamedTuple):
    """The rows of a statement, the rows of the outbox that were refused with the errors, and the ids not tried."""

    results: list[TupleRow]
    refused: list[RefusedRow]
    not_tried: list[int]


class RefusedRows(StatementRunner):
    """Runs statements, and records the rows that the table refuses."""

    async def _fetch_claim(self, name: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """Run a claim. If the table refuses rows of it, record them and claim the others."""
        for _ in range(MAX_CLAIM_SEARCHES):
            try:
                return await self._fetch(name, **parameters)
            except psycopg.Error as error:
                if not may_be_one_rows_fault(error):
                    raise
                found = await self._try_claim(name, parameters)
                if not found.refused:
                    raise
            await self._record_refused(found.refused, {}, "cannot be claimed: the table refuses the status PROCESSING")
        return await self._fetch(name, **parameters)

    async def _try_claim(self, name: str, parameters: Mapping[str, Any]) -> Halved[RowVersion, None]:
        """Return which rows of a claim the table refuses. Everything is rolled back.

        Rows that pass keep their new status until then, so that one of two rows that exclude each other is found.
        """
        async with borrow_connection(self._pool) as connection, connection.transaction(force_rollback=True):
            await connection.execute("set constraints all immediate")

            async def try_rows(rows: Sequence[RowVersion]) -> list[None]:
                async with connection.transaction():
                    await connection.execute(self._queries["try_claim"], {"ids": [row.id for row in rows]})
                return []

            cursor = await connection.execute(self._queries[f"find_{name}"], parameters)
            return await run_halving(try_rows, [RowVersion(*row) for row in await cursor.fetchall()])

    async def _fetch_each(
        self, name: str, fences: Mapping[int, int | None], purpose: str, **parameters: Any
    ) -> list[TupleRow]:
        """Run a statement over the rows with these ids and fences. Record the rows that the table refuses."""

        async def run(ids: Sequence[int]) -> list[TupleRow]:
            return await self._fetch(name, ids=list(ids), fences=[fences[each] for each in ids], **parameters)

        found = await self._run_halving(run, list(fences))
        await self._record_refused(found.refused, fences, purpose)
        return found.results

    async def _detect_retracted(self, **parameters: Any) -> dict[int, int]:
        """Record new retractions. If the table refuses the note in a row, record only the ledger's part of it."""
        try:
            return dict(await self._fetch("detect_retracted", only=None, note=True, **parameters))
        except psycopg.Error as error:
            if not may_be_one_rows_fault(error):
                raise

        async def run(ids: Sequence[int]) -> list[TupleRow]:
            return await self._fetch("detect_retracted", only=list(ids), note=True, **parameters)

        due = await self._fetch("find_retracted", **parameters)
        found = await self._run_halving(run, [notification_id for (notification_id,) in due])
        refused = [row.id for row, _ in found.refused]
        without_note = await self._fetch("detect_retracted", only=refused, note=False, **parameters)
        purpose = "its retraction is carried out, but the table refuses our note of it"
        await self._record_refused(found.refused, {}, purpose)
        return dict(found.results + without_note)

    async def _run_halving(self, run: Run[int, TupleRow], ids: Sequence[int]) -> Found:
        """Run a statement for rows, as `run_halving` does."""
        versions: dict[int, str] = {}

        async def read_versions() -> None:
            versions.update(await self._fetch("row_versions", ids=list(ids)))

        found = await run_halving(run, ids, read_versions)
        refused = [(RowVersion(each, versions[each]), error) for each, error in found.refused if each in versions]
        return Found(found.results, refused, found.not_tried)

    async def _record_refused(
        self,
        refused: Sequence[RefusedRow],
        fences: Mapping[int, int | None],
        purpose: str | Mapping[int, str],
    ) -> None:
        """Make dead letters in the ledger of rows that the table refuses. `purpose`: what it refuses, for each row.

        A row whose fence is not the given one any more is left to the run that acquired it.
        """
        if not refused:
            return
        reasons = {
            row.id: f"{purpose if isinstance(purpose, str) else purpose[row.id]}: {words_of(error)}"
            for row, error in refused
        }
        ids = [row.id for row, _ in refused]
        recorded = await self._fetch(
            "refuse",
            ids=ids,
            versions=[row.version for row, _ in refused],
            words=list(reasons.values()),
            fences=[fences.get(each) for each in ids],
        )
        codes = {row.id: error.sqlstate for row, error in refused}
        for (notification_id,) in recorded:
            log.error(
                "row_refused",
                notification_id=notification_id,
                code=codes[notification_id],
                reason=reasons[notification_id],
            )
