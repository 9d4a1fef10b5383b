"""Runs the statements of queries/ on the pool, and again after a deadlock."""

import contextlib
from collections.abc import Mapping
from typing import Any

from psycopg.errors import DeadlockDetected
from psycopg.rows import AsyncRowFactory, Row, TupleRow, tuple_row

from dispatcher.postgres.pool import Pool, borrow_connection

DEADLOCK_RETRIES = 3
"""How often a statement runs again after PostgreSQL ended it in a deadlock."""


class StatementRunner:
    """Runs statements by their names. `queries`: the text of each."""

    def __init__(self, pool: Pool, queries: Mapping[str, bytes]) -> None:
        self._pool = pool
        self._queries = queries

    async def _run(self, name: str, **parameters: Any) -> None:
        """Run the statement queries/`name`.sql, ignoring its rows."""
        await self._execute(name, parameters, tuple_row)

    async def _fetch(self, name: str, **parameters: Any) -> list[TupleRow]:
        """Run the statement queries/`name`.sql and return its rows as tuples."""
        return await self._execute(name, parameters, tuple_row)

    async def _execute(self, name: str, parameters: dict[str, Any], row_factory: AsyncRowFactory[Row]) -> list[Row]:
        """Run the statement queries/`name`.sql and return its rows as `row_factory` makes them.

        If the owner edits rows that we process, two statements can deadlock. PostgreSQL rolls one of them back, and it
        runs again, up to DEADLOCK_RETRIES times.
        """
        for _ in range(DEADLOCK_RETRIES):
            with contextlib.suppress(DeadlockDetected):
                return await self._execute_once(name, parameters, row_factory)
        return await self._execute_once(name, parameters, row_factory)

    async def _execute_once(
        self, name: str, parameters: dict[str, Any], row_factory: AsyncRowFactory[Row]
    ) -> list[Row]:
        async with borrow_connection(self._pool) as connection, connection.cursor(row_factory=row_factory) as cursor:
            await cursor.execute(self._queries[name], parameters)
            return await cursor.fetchall() if cursor.description else []
