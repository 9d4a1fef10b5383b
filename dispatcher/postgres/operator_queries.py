"""What an operator reads of outbox and ledger, and does to rows: look, send again, take back, try it out.

Stands beside outbox.py, which alone walks the path of a notification. A change is the update that an application would
write, and its entry in `dispatcher.action`, in one statement; what follows from it is decided where it always is.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, cast
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.errors import QueryCanceled
from psycopg.rows import TupleRow

from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.session import OPERATOR_SETTINGS, RUNTIME_TABLES, apply_settings
from dispatcher.postgres.statements import TableNames, load_query, shared_parts

COUNT_TIMEOUT = "2s"
"""A table that is not counted within this time is estimated."""
NODE_TTL = timedelta(minutes=1)
"""A node not seen for longer is gone; it says so at every sweep, twice a minute or more."""
MAX_PREVIEWED_ROWS = 100_000
"""Rows that one command changes."""
CHANGE_BATCH_ROWS = 500
"""So many rows are changed, and locked, at a time."""
TAIL_LIMIT = 500
"""So many rows of each kind are looked at again to see what changed."""

FINAL_STATUSES = ("SENT", "PARTIAL", "FAILED")
BEING_RETRACTED = "is being retracted: once a dispatcher has noticed that, a second or two, it can be sent again"
"""Why a row cannot be sent again yet; follows its id."""
FILTERS: dict[str, LiteralString] = {
    "ids": "n.id = any(%(ids)s)",
    # Where the enum has no PARTIAL, the outcome tells.
    "statuses": "(n.notification_status::text = any(%(statuses)s) or 'PARTIAL' = any(%(statuses)s)"
    " and n.notification_status::text = 'FAILED' and n.error_details ->> 'outcome' = 'PARTIAL')",
    "enterprise": "n.enterprise_id::text = %(enterprise)s",
    "enterprises": "n.enterprise_id::text = any(%(enterprises)s)",
    "workflow": "w.workflow_key = %(workflow)s",
    "error": "strpos(lower(coalesce(d.last_error, n.error_details ->> 'error')), lower(%(error)s)) > 0",
    "dead": "d.dead_lettered_at is not null and n.notification_status::text in ('FAILED', 'PARTIAL')",
}

Row = dict[str, Any]
Parts = Mapping[str, sql.Composable]
NO_PARTS: Parts = {}
ConnectionFactory = Callable[[], AbstractAsyncContextManager[AsyncConnection[TupleRow]]]
"""Gives a connection for one statement."""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows. `since` and `until` are about their creation; a timedelta counts back from the database's now."""

    ids: tuple[int, ...] = ()
    statuses: tuple[str, ...] = ()
    enterprise: str | None = None
    enterprises: tuple[str, ...] = ()
    workflow: str | None = None
    error: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    dead: bool = False

    @property
    def is_set(self) -> bool:
        """Whether any row is left out."""
        return self != RowFilter()

    def condition(self) -> sql.Composable:
        """Return the condition; only what is asked for is in it, so that each question has a plan of its own."""
        parts: list[sql.Composable] = [sql.SQL(text) for name, text in FILTERS.items() if getattr(self, name)]
        for name, sign in (("since", ">="), ("until", "<")):
            if (moment := getattr(self, name)) is not None:
                back = "now() - " if isinstance(moment, timedelta) else ""
                parts.append(sql.SQL(cast("LiteralString", f"n.created_at {sign} {back}%({name})s")))
        return sql.SQL(" and ").join(parts) if parts else sql.SQL("true")

    def parameters(self) -> dict[str, Any]:
        """Return what the condition refers to."""
        return {
            "ids": list(self.ids),
            "statuses": list(self.statuses),
            "enterprise": self.enterprise,
            "enterprises": list(self.enterprises),
            "workflow": self.workflow,
            "error": self.error,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row of a preview. `accepted`, `unknown`: recipients of its last sending. `closed`: it would have to wait.
    `fence`: how often it was taken, so that one which was sent again meanwhile is known, whatever its status is."""

    id: int
    status: str
    retraction_noticed: bool
    retry_waits: bool
    closed: bool
    recipients: int
    accepted: int
    unknown: int
    fence: int | None


@dataclass(frozen=True, slots=True)
class TrialNotification:
    """A notification written to be followed."""

    id: int
    enterprise: str | None
    since: datetime


class OperatorQueries:
    """Outbox and ledger, as an operator sees them; `person` is noted beside the role with every action."""

    def __init__(self, lend: ConnectionFactory, relations: TableNames, *, actor: str | None = None) -> None:
        self._lend = lend
        self._relations = relations
        self._outbox = relations.outbox.as_string()
        self._actor = actor
        self._columns: set[str] = set()
        self._readable: set[str] = set()

    async def prepare(self) -> None:
        """Find out what there is; ConfigurationError when it is not an outbox of ours."""
        [[outbox, missing, columns, readable]] = await self._rows(
            "check_outbox", outbox=self._outbox, ledger=list(RUNTIME_TABLES)
        )
        if not outbox or "notification_status" not in columns:
            raise ConfigurationError(
                f"{self._outbox} does not exist or is no outbox; set DISPATCHER_OUTBOX to the notifications' table"
            )
        if missing:
            raise ConfigurationError("this database is not prepared; run: dispatcher db install")
        self._columns, self._readable = set(columns), set(readable)

    async def list_rows(self, filters: RowFilter, limit: int, below: int | None = None) -> list[Row]:
        """Return the newest matching rows, those with ids below one."""
        keyset = sql.SQL("n.id < %(below)s" if below is not None else "true")
        parameters = {**filters.parameters(), "limit": limit, "below": below}
        return await self._json("rows", {"below": keyset, "matching": filters.condition()}, **parameters)

    async def find_row(self, notification_id: int) -> Row | None:
        """Return one row with all that says what happens next."""
        found = await self.find_rows(RowFilter(ids=(notification_id,)))
        return found[0] if found else None

    async def find_rows(self, filters: RowFilter) -> list[Row]:
        """Return the matching rows, each with all that says what happens next."""
        return await self._json("row", {"matching": filters.condition()}, **filters.parameters(), alive=NODE_TTL)

    async def recipients(self, notification_id: int, limit: int) -> tuple[list[Row], int]:
        """Return what became of a row's recipients, and how many there are in all."""
        rows = await self._rows("recipients", id=notification_id, limit=limit)
        return [row for row, _ in rows], rows[0][1] if rows else 0

    async def recent_changes(self, filters: RowFilter, seen: Sequence[int]) -> list[Row]:
        """Return the rows that can have changed a moment ago, those of `seen` among them."""
        parameters = {**filters.parameters(), "seen": list(seen), "limit": TAIL_LIMIT}
        return await self._json("recent_changes", {"matching": filters.condition()}, **parameters)

    async def read_health(self) -> Row:
        """Return who is there, what is installed, and what waits for whom."""
        [health] = await self._json("health", NO_PARTS, outbox=self._outbox, alive=NODE_TTL)
        return health

    async def count_by_status(self, within: str = COUNT_TIMEOUT) -> Row:
        """Return how many rows have which status; estimated where counting would take too long."""
        exact = True
        try:
            [[counts, due, scheduled, waiting]] = await self._rows("counts", NO_PARTS, within)
        except QueryCanceled:
            exact = False
            parameters = {"outbox": self._outbox, "limit": 10_000}
            [[counts, due, scheduled, waiting]] = await self._rows("estimate", **parameters)
        ages = {"oldest_due_seconds": waiting}
        return {"counts": counts, "counts_exact": exact, "due": due, "scheduled": scheduled, **ages}

    async def preview(self, filters: RowFilter) -> list[PreviewRow]:
        """Return what a change of the matching rows would meet; ConfigurationError when they are too many."""
        parts = {"matching": filters.condition()}
        rows = await self._rows("preview", parts, **filters.parameters(), limit=MAX_PREVIEWED_ROWS + 1)
        if len(rows) > MAX_PREVIEWED_ROWS:
            raise ConfigurationError(
                f"more than {MAX_PREVIEWED_ROWS} match: narrow it, with --since and --until for example"
            )
        return [PreviewRow(*row) for row in rows]

    async def resend(self, rows: Sequence[PreviewRow], reason: str | None = None) -> list[int]:
        """Set ended rows back to PENDING, which is a new sending to all recipients; return those that were changed."""
        return await self._change("retry", sql.SQL("notification_status = 'PENDING'"), rows, reason)

    async def retract(self, rows: Sequence[PreviewRow], reason: str | None = None) -> list[int]:
        """Set rows to RETRACTED; return those that were changed."""
        changes = "notification_status = 'RETRACTED', retracted_at = clock_timestamp()"
        if reason is not None and "retraction_reason" in self._columns:
            changes += ", retraction_reason = %(reason)s::text"
        return await self._change("retract", sql.SQL(cast("LiteralString", changes)), rows, reason)

    async def workflow_keys(self) -> list[str]:
        """Return Novu workflows that a test can use."""
        return [key for (key,) in await self._rows("workflow_keys")]

    async def insert_test(
        self, key: str, recipient: UUID, enterprise: str | None, payload: str
    ) -> TrialNotification | None:
        """Write a notification for a Novu workflow; None when there is no such workflow."""
        values = {
            "name": "'dispatcher send-test ' || gen_random_uuid()",
            "publish_status": "'PUBLISH'",
            "notification_workflow_id": "w.id",
            "payload": "%(payload)s",
            "recipients": "%(recipients)s",
        }
        # Of the type that the workflow's column has; a workflow of one enterprise serves nobody else.
        values["enterprise_id"] = "w.enterprise_id" if enterprise is None else "%(enterprise)s"
        used = {name: value for name, value in values.items() if name in self._columns}
        parts = {
            "columns": sql.SQL(", ").join(map(sql.Identifier, used)),
            "values": sql.SQL(cast("LiteralString", ", ".join(used.values()))),
        }
        given = {"key": key, "recipient": str(recipient), "recipients": f"{{{recipient}}}", "payload": payload}
        rows = await self._rows("insert_test", parts, **given, enterprise=enterprise, person=self._actor)
        return TrialNotification(*rows[0]) if rows else None

    async def test_progress(self, trial: TrialNotification) -> Row | None:
        """Return how far the notification is; None when it is gone."""
        found = await self._json("test_progress", NO_PARTS, id=trial.id, since=trial.since, alive=NODE_TTL)
        return found[0] if found else None

    async def remove_test(self, trial: TrialNotification) -> bool:
        """Delete the notification; False when it has not ended, so that it is in somebody's hands."""
        return bool(await self._rows("remove_test", id=trial.id, person=self._actor))

    async def _change(self, action: str, changes: sql.SQL, rows: Sequence[PreviewRow], reason: str | None) -> list[int]:
        seen = {
            "ids": [row.id for row in rows],
            "statuses": [row.status for row in rows],
            "fences": [row.fence for row in rows],
        }
        noted = {"action": action, "reason": reason, "person": self._actor}
        found = await self._rows("change", {"changes": changes}, **seen, **noted)
        return [notification_id for (notification_id,) in found]

    async def _json(self, name: str, parts: Parts, /, **parameters: Any) -> list[Row]:
        return [row for (row,) in await self._rows(name, parts, **parameters)]

    async def _rows(
        self,
        name: str,
        parts: Parts = NO_PARTS,
        within: str = OPERATOR_SETTINGS["statement_timeout"],
        /,
        **parameters: Any,
    ) -> list[TupleRow]:
        """Run one statement in a transaction of its own, which has our settings and leaves nothing in the session."""
        pinned = {**OPERATOR_SETTINGS, "statement_timeout": within}
        async with self._lend() as connection, connection.transaction():
            await apply_settings(connection, pinned, local=True)
            statement = load_query(f"operator/{name}", **self._parts(parts))
            cursor = await connection.execute(statement, parameters, prepare=False)
            return await cursor.fetchall()

    def _parts(self, more: Parts) -> dict[str, sql.Composable]:
        return {
            **shared_parts(self._relations),
            "title": sql.SQL("left(n.name, 200)" if "name" in self._readable else "null::text"),
            **more,
        }
