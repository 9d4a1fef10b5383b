"""The trigger API's access to the database: limited to a few connections, and absent until the pool is open."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from starlette.exceptions import HTTPException

from dispatcher.config.table_names import parse_outbox_name
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import Pool, borrow_connection
from dispatcher.postgres.statements import TableNames

MAX_PARALLEL_STATEMENTS = 2
"""How many of the pool's connections the API uses at a time; the rest is for claiming and sending."""
DATABASE_TIMEOUT_SECONDS = 5.0
"""A statement that takes longer gets no answer any more: it waits at most 3 s for a lock."""


class DatabaseHandle:
    """Gives out the operator's queries. `attach` has to be called once the pool is open."""

    def __init__(self) -> None:
        self._operator: OperatorQueries | None = None

    def attach(self, pool: Pool, outbox: str) -> None:
        """Use this pool from now on. `outbox`: the table's name as in DISPATCHER_OUTBOX."""
        limit = asyncio.Semaphore(MAX_PARALLEL_STATEMENTS)

        @asynccontextmanager
        async def connect() -> AsyncGenerator[AsyncConnection[TupleRow]]:
            async with limit, borrow_connection(pool, DATABASE_TIMEOUT_SECONDS) as connection:
                yield connection

        table = parse_outbox_name(outbox)
        self._operator = OperatorQueries(
            connect, TableNames(table.identifier, table.workflow.identifier), actor="HTTP API"
        )

    async def ready(self) -> OperatorQueries:
        """Return the prepared queries. Raises HTTPException 503 before `attach`, and psycopg's errors."""
        if self._operator is None:
            raise HTTPException(503, "the database is not connected yet: try again")
        if not self._operator.is_prepared:
            await self._operator.prepare()
        return self._operator
