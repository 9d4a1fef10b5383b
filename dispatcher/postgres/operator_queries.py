"""The operator's statements on outbox and ledger: read rows, send them again, retract them, send a test.

`outbox.py` holds the statements of dispatcher and worker; none of them is used here. A change is one statement: the
update that an application would write, and its entry in `dispatcher.action`. Dispatchers act on it as on any update.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, LiteralString, cast
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.errors import QueryCanceled
from psycopg.rows import TupleRow

from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import require_own_outbox
from dispatcher.postgres.operator_rows import (
    InstallationHealth,
    ListedRow,
    PreviewRow,
    RecipientRow,
    RowDetails,
    StatusCounts,
    TrialNotification,
    TrialProgress,
    WatchedRow,
)
from dispatcher.postgres.row_filter import RowFilter
from dispatcher.postgres.session import OPERATOR_SETTINGS, RUNTIME_TABLES, pinned_transaction
from dispatcher.postgres.statements import TableNames, load_query, shared_parts

COUNT_TIMEOUT = "2s"
"""If counting the table takes longer, the counts are estimated."""
NODE_TTL = timedelta(minutes=1)
"""A node is alive for this long after its last sign. It gives one at every sweep, at least twice a minute."""
MAX_PREVIEWED_ROWS = 100_000
"""How many rows one command may change."""
TAIL_LIMIT = 500
"""How many rows of each kind one reading of the recent changes covers."""

Parts = Mapping[str, sql.Composable]
NO_PARTS: Parts = {}
ConnectionFactory = Callable[[], AbstractAsyncContextManager[AsyncConnection[TupleRow]]]
"""Gives a connection for one statement."""


class OperatorQueries:
    """The operator's statements. `prepare` must have succeeded before any other method is called.

    Every action is recorded with the database role, and with `actor` beside it in brackets.
    """

    def __init__(self, connect: ConnectionFactory, relations: TableNames, *, actor: str | None = None) -> None:
        self._connect = connect
        self._relations = relations
        self._outbox = relations.outbox.as_string()
        self._actor = actor
        self._columns: set[str] = set()
        self._readable: set[str] = set()

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has succeeded."""
        return bool(self._columns)

    async def prepare(self) -> None:
        """Read which columns the outbox has.

        Raises ConfigurationError if it is no outbox, not installed, or not the outbox of this ledger.
        """
        [[outbox, missing, columns, readable]] = await self._rows(
            "check_outbox", outbox=self._outbox, ledger=list(RUNTIME_TABLES)
        )
        if not outbox or "notification_status" not in columns:
            raise ConfigurationError(
                f"{self._outbox} does not exist or is no outbox; set DISPATCHER_OUTBOX to the notifications' table"
            )
        if missing:
            raise ConfigurationError("this database is not prepared; run: dispatcher db install")
        async with self._transaction(OPERATOR_SETTINGS["statement_timeout"]) as connection:
            await require_own_outbox(connection, self._outbox)
        self._columns, self._readable = set(columns), set(readable)

    async def list_rows(self, filters: RowFilter, limit: int, below: int | None = None) -> list[ListedRow]:
        """Return at most `limit` matching rows, newest first; with `below`, only rows with a smaller id."""
        keyset = sql.SQL("n.id < %(below)s" if below is not None else "true")
        parameters = {**filters.parameters(), "limit": limit, "below": below}
        return await self._json("rows", {"below": keyset, "matching": filters.condition()}, **parameters)

    async def find_row(self, notification_id: int) -> RowDetails | None:
        """Return one row with everything that decides its next step; None if it does not exist."""
        found = await self.find_rows(RowFilter(ids=(notification_id,)))
        return found[0] if found else None

    async def find_rows(self, filters: RowFilter) -> list[RowDetails]:
        """Return the matching rows, each with everything that decides its next step."""
        return await self._json("row", {"matching": filters.condition()}, **filters.parameters(), node_ttl=NODE_TTL)

    async def recipients(self, notification_id: int, limit: int) -> tuple[list[RecipientRow], int]:
        """Return at most `limit` recipients of a row, of the newest generation first, and the number of all."""
        rows = await self._rows("recipients", id=notification_id, limit=limit)
        return [row for row, _ in rows], rows[0][1] if rows else 0

    async def recent_changes(self, filters: RowFilter, ids: Sequence[int]) -> list[WatchedRow]:
        """Return the newest rows, the rows in work, the rows that wait for a retry, and the rows with these ids."""
        parameters = {**filters.parameters(), "watched_ids": list(ids), "limit": TAIL_LIMIT}
        return await self._json("recent_changes", {"matching": filters.condition()}, **parameters)

    async def read_health(self) -> InstallationHealth:
        """Return the nodes, the installed triggers, and how many rows wait for which step."""
        [health] = await self._json("health", NO_PARTS, outbox=self._outbox, node_ttl=NODE_TTL)
        return health

    async def count_by_status(self, within: str = COUNT_TIMEOUT) -> StatusCounts:
        """Return how many rows have which status. If counting takes longer than `within`, return estimates."""
        exact = True
        try:
            [[counts, due, scheduled, oldest]] = await self._rows("counts", NO_PARTS, within)
        except QueryCanceled:
            exact = False
            parameters = {"outbox": self._outbox, "limit": 10_000}
            [[counts, due, scheduled, oldest]] = await self._rows("estimate", **parameters)
        return StatusCounts(counts=counts, counts_exact=exact, due=due, scheduled=scheduled, oldest_due_seconds=oldest)

    async def preview(self, filters: RowFilter) -> list[PreviewRow]:
        """Return the rows that a change would meet. Raises ConfigurationError above 100,000 rows."""
        parts = {"matching": filters.condition()}
        rows = await self._rows("preview", parts, **filters.parameters(), limit=MAX_PREVIEWED_ROWS + 1)
        if len(rows) > MAX_PREVIEWED_ROWS:
            raise ConfigurationError(
                f"more than {MAX_PREVIEWED_ROWS} rows match: select fewer, for example with --since and --until"
            )
        return [PreviewRow(*row) for row in rows]

    async def resend(self, rows: Sequence[PreviewRow], reason: str | None = None) -> list[int]:
        """Set rows back to PENDING, so that all their recipients get them again. Return the ids that were changed.

        Rows that are locked, or that differ from the preview, stay as they are.
        """
        return await self._change("retry", sql.SQL("notification_status = 'PENDING'"), rows, reason)

    async def retract(self, rows: Sequence[PreviewRow], reason: str | None = None) -> list[int]:
        """Set rows to RETRACTED. Return the ids that were changed; see `resend` for the rest."""
        changes = "notification_status = 'RETRACTED', retracted_at = clock_timestamp()"
        if reason is not None and "retraction_reason" in self._columns:
            changes += ", retraction_reason = %(reason)s::text"
        return await self._change("retract", sql.SQL(cast("LiteralString", changes)), rows, reason)

    async def workflow_keys(self) -> list[str]:
        """Return the keys of at most 20 Novu workflows that a test can use."""
        return [key for (key,) in await self._rows("workflow_keys")]

    async def insert_test(
        self, key: str, recipient: UUID, enterprise: str | None, payload: str
    ) -> TrialNotification | None:
        """Write a notification for a Novu workflow; return None if no published workflow has that key."""
        values = {
            "name": "'dispatcher send-test ' || gen_random_uuid()",
            "publish_status": "'PUBLISH'",
            "notification_workflow_id": "w.id",
            "payload": "%(payload)s",
            "recipients": "%(recipients)s",
        }
        # The workflow's column has the right type. A workflow of one enterprise serves only that enterprise.
        values["enterprise_id"] = "w.enterprise_id" if enterprise is None else "%(enterprise)s"
        used = {name: value for name, value in values.items() if name in self._columns}
        parts = {
            "columns": sql.SQL(", ").join(map(sql.Identifier, used)),
            "values": sql.SQL(cast("LiteralString", ", ".join(used.values()))),
        }
        given = {"key": key, "recipient": str(recipient), "recipients": f"{{{recipient}}}", "payload": payload}
        rows = await self._rows("insert_test", parts, **given, enterprise=enterprise, actor=self._actor)
        return TrialNotification(*rows[0]) if rows else None

    async def test_progress(self, trial: TrialNotification) -> TrialProgress | None:
        """Return how far the test's notification is; None if its row was deleted."""
        found = await self._json("test_progress", NO_PARTS, id=trial.id, since=trial.since, node_ttl=NODE_TTL)
        return found[0] if found else None

    async def remove_test(self, trial: TrialNotification) -> bool:
        """Delete the test's notification; return False if it has not ended, because a run may still use the row."""
        return bool(await self._rows("remove_test", id=trial.id, actor=self._actor))

    async def _change(self, action: str, changes: sql.SQL, rows: Sequence[PreviewRow], reason: str | None) -> list[int]:
        previewed = {
            "ids": [row.id for row in rows],
            "statuses": [row.status for row in rows],
            "fences": [row.fence for row in rows],
        }
        recorded = {"action": action, "reason": reason, "actor": self._actor}
        changed = await self._rows("change", {"changes": changes}, **previewed, **recorded)
        return [notification_id for (notification_id,) in changed]

    async def _json(self, name: str, parts: Parts, /, **parameters: Any) -> list[Any]:
        """Run a statement whose only column is JSON; return the decoded values."""
        return [row for (row,) in await self._rows(name, parts, **parameters)]

    async def _rows(
        self,
        name: str,
        parts: Parts = NO_PARTS,
        within: str = OPERATOR_SETTINGS["statement_timeout"],
        /,
        **parameters: Any,
    ) -> list[TupleRow]:
        """Run one statement in its own transaction with `OPERATOR_SETTINGS`; the session keeps its own settings."""
        async with self._transaction(within) as connection:
            statement = load_query(f"operator/{name}", **self._parts(parts))
            cursor = await connection.execute(statement, parameters, prepare=False)
            return await cursor.fetchall()

    @asynccontextmanager
    async def _transaction(self, within: str) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend a connection in a transaction with `OPERATOR_SETTINGS`."""
        settings = {**OPERATOR_SETTINGS, "statement_timeout": within}
        async with self._connect() as connection, pinned_transaction(connection, settings):
            yield connection

    def _parts(self, more: Parts) -> dict[str, sql.Composable]:
        return {
            **shared_parts(self._relations),
            "title": sql.SQL("left(n.name, 200)" if "name" in self._readable else "null::text"),
            **more,
        }
