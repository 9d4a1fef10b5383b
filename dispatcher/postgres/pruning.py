"""Prunes the ledger in small steps: recipients of old settled rows, and heads of rows that their owner has deleted.

The outbox is only read. A step holds its locks for milliseconds, waits for none, and is undone as a whole if it takes
too long. Steps of several processes at the same time are safe: each skips the heads that another one has locked.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.errors import LockNotAvailable, QueryCanceled
from psycopg.rows import class_row

from dispatcher.postgres.pool import Pool, borrow_connection
from dispatcher.postgres.session import apply_settings
from dispatcher.postgres.statements import load_query

HEADS_PER_STEP = 500
RECIPIENTS_PER_STEP = 1000
SETTINGS = {
    "statement_timeout": "2s",
    "lock_timeout": "100ms",
    "synchronous_commit": "off",  # a step that a crash of the server loses is only done again
}
BEFORE_ALL_IDS = -(2**63)


class Step(NamedTuple):
    """The result of one step. `walked_to`: the id to go on after; None: the walk is over."""

    walked_to: int | None
    recipients: int
    heads: int
    bytes: int


class LedgerPruning:
    """Walks the ledger from its lowest id. `node`: the id of this node; None: an operator prunes.

    `age`: how long a generation has been settled before it is pruned.
    """

    def __init__(self, pool: Pool, outbox: sql.Identifier, *, age: timedelta, node: str | None = None) -> None:
        self._pool = pool
        self._parameters = {"age": age, "node": node}
        self._prune = statement("prune", outbox, locks=True)
        self._count = statement("count_prunable", outbox, locks=False)
        self._heads, self._recipients = HEADS_PER_STEP, RECIPIENTS_PER_STEP

    async def prune(self, after: int) -> Step:
        """Prune the next part of the ledger after this id. A step that takes too long is undone, and made smaller."""
        sizes = {"heads": self._heads, "recipients": self._recipients}
        try:
            step = await self._run(self._prune, {"after": after, **sizes})
        except (QueryCanceled, LockNotAvailable):
            if self._heads == 1 == self._recipients:
                return Step(None, 0, 0, 0)  # the database is too busy: the next walk tries again
            self._heads, self._recipients = max(1, self._heads // 4), max(1, self._recipients // 4)
            return Step(after, 0, 0, 0)
        self._heads, self._recipients = HEADS_PER_STEP, RECIPIENTS_PER_STEP
        return step

    async def count(self, after: int) -> Step:
        """Count what would be pruned of the next part of the ledger after this id."""
        return await self._run(self._count, {"after": after, "heads": HEADS_PER_STEP})

    async def _run(self, query: bytes, parameters: Mapping[str, Any]) -> Step:
        async with borrow_connection(self._pool) as connection, connection.transaction():
            await apply_settings(connection, SETTINGS, local=True)
            async with connection.cursor(row_factory=class_row(Step)) as cursor:
                await cursor.execute(query, {**self._parameters, **parameters})
                [step] = await cursor.fetchall()
                return step


def statement(name: str, outbox: sql.Identifier, *, locks: bool) -> bytes:
    """Return queries/`name`.sql with its shared part. `locks`: whether it locks the heads that it finds."""
    parts = {"outbox": outbox, "lock": sql.SQL("for update of d skip locked" if locks else "")}
    return load_query(name, prunable=load_query("prunable", **parts)).as_bytes()
