"""The state of the scenario's rows, read from both ends: the outbox with its ledger, and the fake Novu."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio
from psycopg import AsyncConnection

from dispatcher.devstack.demo.scenario import Step
from dispatcher.devstack.fake_novu.ledger import LoggedRequest
from dispatcher.devstack.fake_novu.process import Effect
from dispatcher.models.notification import FINAL_STATUSES, Status

# The due time is the time stamp of the commit (`track_commit_timestamp` is on in the demo's PostgreSQL), or the
# scheduled time if the row has one.
ROWS = """
select w.id, n.notification_status::text, n.error_details->>'outcome', n.error_details->>'error',
  d.next_attempt_at is not null,
  greatest(pg_xact_commit_timestamp(w.xid::xid), n.scheduled_for), d.claimed_at, d.settled_at
from unnest(%(ids)s::bigint[], %(xids)s::text[]) w (id, xid)
join notify.ent_notification n on n.id = w.id
left join dispatcher.delivery d on d.notification_id = n.id
"""
ENDED_STATUSES = {*FINAL_STATUSES, Status.RETRACTED}
TRANSACTIONS = """
select notification_id, recipient, transaction_id from dispatcher.recipient where notification_id = any(%s::bigint[])
"""


@dataclass
class DemoRow:
    """One row of the scenario: its step and recipients, and its state at the last read."""

    step: Step
    id: int
    xid: str  # of the transaction that made it eligible
    accepted: tuple[str, ...]  # recipients that the fake Novu accepts
    refused: tuple[str, ...] = ()
    status: str = Status.PENDING
    outcome: str | None = None
    error: str | None = None
    retried: bool = False
    due_at: datetime | None = None
    claimed_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def final(self) -> bool:
        """Whether the row has reached a final status and no automatic retry is planned."""
        return self.status in ENDED_STATUSES and not self.retried

    @property
    def milliseconds(self) -> float | None:
        """Milliseconds from the due time to the settled row; None while it is not settled."""
        return milliseconds_between(self.due_at, self.settled_at)


@dataclass(frozen=True)
class Results:
    """The data that the report is based on. `transaction_ids`: from the ledger, by (notification id, recipient)."""

    rows: Sequence[DemoRow]
    transaction_ids: Mapping[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])
    effects: Sequence[Effect] = ()
    requests: Sequence[LoggedRequest] = ()


async def refresh_rows(connection: AsyncConnection[Any], rows: Mapping[int, DemoRow]) -> None:
    """Read the state of every row and store it in `rows`, which maps ids to rows."""
    parameters = {"ids": list(rows), "xids": [row.xid for row in rows.values()]}
    for id_, *found in await fetch_rows(connection, ROWS, parameters):
        row = rows[id_]
        row.status, row.outcome, row.error, row.retried, row.due_at, row.claimed_at, row.settled_at = found


async def transaction_ids(connection: AsyncConnection[Any], ids: Sequence[int]) -> dict[tuple[int, str], str]:
    """Return the transaction id in the ledger for each (notification id, recipient)."""
    found = await fetch_rows(connection, TRANSACTIONS, [list(ids)])
    return {(id_, recipient): transaction for id_, recipient, transaction in found}


async def fetch_rows(connection: AsyncConnection[Any], statement: str, parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows. A cancellation waits for the end of the statement, which is short."""
    rows: list[tuple[Any, ...]] = []
    with anyio.CancelScope(shield=True):
        cursor = await connection.execute(statement.encode(), parameters)
        rows = await cursor.fetchall()
    return rows  # noqa: RET504  (to a type checker, the block may swallow errors)


def milliseconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the milliseconds between two times, None if one is missing.

    0 if `end` is earlier: the statement of a claim can begin before the commit that it sees.
    """
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds() * 1000)
