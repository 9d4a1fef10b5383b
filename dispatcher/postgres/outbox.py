"""All statements on the path of a notification: on the outbox and the ledger.

Each method runs one statement from queries/, so it takes effect completely or not at all. Each write checks the row's
fence or the status that it expects, so a late write changes nothing. All methods raise `pool.CONNECTION_ERRORS`.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow, dict_row

from dispatcher.config.table_names import CHANNEL
from dispatcher.decisions.call_planning import Call, Member
from dispatcher.models.claims import Claim, ClaimLimits, ExpiredLease, ForeignStatus, WorkflowStart
from dispatcher.models.notification import DEFAULT_LIMITS, Notification, PendingCancel, RowLimits, Status
from dispatcher.postgres.array_parameters import (
    call_arrays,
    cancel_arrays,
    ids_and_fences,
    status_arrays,
)
from dispatcher.postgres.backlog_stats import BacklogStats
from dispatcher.postgres.halving import may_be_one_rows_fault
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, StatusColumn, borrow_connection
from dispatcher.postgres.reading import ReadingStore
from dispatcher.postgres.restore_guard import RestoreGuard
from dispatcher.postgres.statements import TableNames, compose_statements

TENANTS_PER_CLAIM = 1000
"""Enterprises that one claim serves. If more have a backlog, the next claim continues with the next enterprise."""

MAX_FIRST_TRY_ROWS = 50
MAX_FIRST_TRY_BYTES = 4_000
"""A workflow with more rows, or with more stored bytes of recipients, starts on the batch queue: its calls may take too
long for a local activity. A recipient takes 16 to 40 bytes, a row 24 more."""

REFUSED_RELEASE = "cannot be set back: the table refuses the status PENDING"


class ClaimedRow(NamedTuple):
    """A row that a claim took."""

    id: int
    recipient_bytes: int
    enterprise: str


class OutboxStore(ReadingStore):
    """The outbox and its ledger, as one node uses them.

    `node`: this node's id. `enterprises`: an allow-list; only rows of these enterprises are touched; empty: all.
    `limits`: a row above them is refused, and what is too large is not read.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        relations: TableNames,
        status: StatusColumn,
        node: str,
        enterprises: Sequence[UUID] = (),
        limits: RowLimits = DEFAULT_LIMITS,
    ) -> None:
        queries = compose_statements(relations, status, allow_list=bool(enterprises))
        super().__init__(pool, queries, status.labels, node, limits)
        self.guard = RestoreGuard()
        """Notices a database that lost commits; to be replaced by the one that checks the pool's connections."""
        # While all due rows fit into the capacity, the plain claim is faster and as fair as the other one. With an
        # allow-list the fair claim is always used, because it reads no rows of other enterprises.
        self._fair = bool(enterprises)
        self._next_enterprise: str | None = None
        self._claimed_up_to: datetime | None = None
        self._tenants = {"enterprises": [str(each) for each in enterprises], "all_enterprises": not enterprises}

    async def claim(self, claim: str, lease: timedelta, sizes: ClaimLimits) -> Claim:
        """Claim due rows, PENDING to PROCESSING. Return the workflows to start. `claim`: a name that is used once."""
        parameters = {
            "claim": claim,
            "node": self._node,
            "lease": lease,
            "limit": sizes.limit,
            "capacity": sizes.capacity,
            "batch_size": sizes.batch_size,
            **self._tenants,
        }
        rows = [] if self._fair else await self._fetch_claim("claim", parameters)
        if not rows or parse_claim(rows).free_capacity == 0:
            fair = {
                "max_tenants": TENANTS_PER_CLAIM,
                "next_enterprise": self._next_enterprise,
                "enterprise_ids": self._tenants["enterprises"],
            }
            self._next_enterprise = None  # if the claim fails, the next one begins a new round
            rows = await self._fetch_claim("claim_fair", parameters | fair)
            self._next_enterprise = rows[0][1]
        found, self._claimed_up_to = parse_claim(rows), rows[0][2]
        self._fair = found.rows >= found.free_capacity or bool(self._tenants["enterprises"])
        return found

    async def knows_workflow(self, workflow_id: str, ids: list[int]) -> bool:
        """Return whether one of the rows is in the ledger under this workflow."""
        return (await self._fetch("knows_workflow", ids=ids, workflow_id=workflow_id))[0][0]

    async def record_calls(self, calls: Iterable[Call]) -> set[tuple[int, str]]:
        """Record these calls before they leave. Return the (notification, recipient) pairs that may still be called."""
        sent = list(calls)
        fences = ids_and_fences(member.notification for call in sent for member in call.members)
        rows = await self._fetch("record_calls", **fences, **call_arrays(sent))
        if rows:
            self.guard.remember_call(sent[-1].members[-1].notification)
        return {(notification_id, recipient) for notification_id, recipient in rows}

    async def record_found(self, members: Sequence[Member]) -> None:
        """Record recipients that are missing in the ledger although Novu has their run."""
        fences = ids_and_fences(member.notification for member in members)
        await self._run("record_found", **fences, **call_arrays(Call((member,)) for member in members))

    async def release(self, notifications: Sequence[Notification]) -> None:
        """Release rows that a run holds but may not send now. Their attempt does not count.

        Of a row that another transaction has locked only the lease ends, and the next sweep starts its run again.
        """
        fences = {row.id: row.fence for row in notifications}
        await self._fetch_each("release", fences, REFUSED_RELEASE, workflow_id=None)

    async def release_unstarted(self, start: WorkflowStart) -> None:
        """Release rows whose workflow could not be started. Their attempt does not count."""
        fences = dict.fromkeys(start.notification_ids)
        await self._fetch_each("release", fences, REFUSED_RELEASE, workflow_id=start.workflow_id)

    async def rescue(self, late: ExpiredLease, lease: timedelta) -> WorkflowStart | None:
        """Lease the rows of a lost run again, as one more attempt. Return the workflow to start again, or None."""
        rows = await self._fetch("rescue", ids=late.ids, fences=late.fences, node=self._node, lease=lease)
        return WorkflowStart(late.workflow_id, [row[0] for row in rows], late.first_try) if rows else None

    async def uncount_rescue(self, late: ExpiredLease) -> None:
        """Take back the attempt that the rescue of these rows counted: their workflow was not started."""
        await self._run("uncount_rescue", ids=late.ids, fences=[fence + 1 for fence in late.fences])

    async def renew_leases(self, ids: list[int], fences: list[int], lease: timedelta) -> None:
        """Extend the leases of rows to now plus `lease`. A lost connection is ignored: another try follows."""
        with contextlib.suppress(*CONNECTION_ERRORS):
            await self._run("renew_leases", ids=ids, fences=fences, lease=lease)

    async def find_expired(self, limit: int) -> list[ExpiredLease]:
        """Return rows whose lease ran out."""
        return [ExpiredLease(*row) for row in await self._fetch("find_expired", limit=limit)]

    async def adopt_orphans(self, lease: timedelta, limit: int) -> int:
        """Give PROCESSING rows without a lease one, so that they are rescued when it expires. Return how many."""
        return len(await self._fetch("adopt_orphans", lease=lease, limit=limit, **self._tenants))

    async def find_foreign_statuses(self, after: int, limit: int) -> tuple[list[ForeignStatus], int]:
        """Return rows whose status somebody wrote over our outcome, among the `limit` ledger heads after this id.

        All PROCESSING rows are looked at. Also returns the id to go on after; 0: the ledger is at its end.
        """
        partial = self._stored_status(Status.PARTIAL)
        rows = await self._fetch("find_foreign_statuses", after=after, limit=limit, partial=partial, **self._tenants)
        return [ForeignStatus(*row[1:]) for row in rows if row[1] is not None], rows[0][0]

    async def put_statuses_back(self, found: Sequence[ForeignStatus], *, write: bool = True) -> set[int]:
        """Put our statuses back and mark these rows; `write`: False only marks. Return the ids that were written."""
        return {row[0] for row in await self._fetch("put_statuses_back", write=write, **status_arrays(found))}

    async def detect_retracted(self, limit: int) -> dict[int, int]:
        """Record new retractions in rows and ledger. Return how many recipients to cancel, by the row's id."""
        return await self._detect_retracted(limit=limit, **self._tenants)

    async def acquire_cancels(self, limit: int, lease: timedelta) -> list[PendingCancel]:
        """Return recipients to cancel at Novu now. For the time of `lease` no other caller gets them."""
        rows = await self._execute("acquire_cancels", {"limit": limit, "lease": lease, **self._tenants}, dict_row)
        return [PendingCancel(**row) for row in rows]

    async def record_cancels(self, cancels: Sequence[PendingCancel]) -> None:
        """Write the results of cancel calls."""
        await self._run("record_cancels", **cancel_arrays(cancels))

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until the next row becomes due without a commit; None: no row will.

        Negative if a row became due after the last claim.
        """
        rows = await self._fetch("seconds_until_due", claimed_up_to=self._claimed_up_to, **self._tenants)
        return rows[0][0]

    async def heartbeat(self, *, role: str, host: str, version: str, mode: str) -> bool:
        """Record that this node is alive. Return whether its id is the lowest of all live nodes that sweep."""
        rows = await self._fetch("heartbeat", node=self._node, role=role, host=host, version=version, mode=mode)
        async with borrow_connection(self._pool) as connection:  # a pooler may have led it to another server
            await self.guard.check(connection)
        return rows[0][0]

    async def withdraw_heartbeat(self) -> None:
        """Delete this node's heartbeat. Its leases stay."""
        await self._run("withdraw_heartbeat", node=self._node)

    async def has_live_worker(self, ttl: timedelta) -> bool:
        """Return whether a worker process wrote its heartbeat within `ttl`."""
        return (await self._fetch("has_live_worker", ttl=ttl))[0][0]

    async def backlog_stats(self, *, all_rows: bool, living: timedelta, most_counted: int) -> BacklogStats:
        """Return the figures of outbox and ledger. `living`: how long a node counts as alive after its heartbeat.

        `all_rows`: also count all rows by status, unless the table has more than `most_counted`; that is slow.
        """
        parameters = {"all_rows": all_rows, "node_ttl": living, "max_counted_rows": most_counted, **self._tenants}
        [stats] = await self._execute("backlog_stats", parameters, dict_row)
        return cast("BacklogStats", stats)

    async def mark_awake(self) -> None:
        """Make the triggers send no NOTIFY for 2 s, because this node polls."""
        await self._run("mark_awake", node=self._node)

    async def mark_asleep(self) -> None:
        """Make the triggers send NOTIFY again."""
        await self._run("mark_asleep", node=self._node)

    async def notify_all(self) -> None:
        """Send the NOTIFY that wakes every listening node."""
        await self._run("notify_all", channel=CHANNEL)

    async def snapshot_xmax(self) -> str:
        """Return a transaction id that is higher than that of every transaction which has begun to write."""
        return (await self._fetch("snapshot_xmax"))[0][0]

    async def all_ended_before(self, transaction: str) -> bool:
        """Return whether every transaction with a lower id than `transaction` has ended."""
        return (await self._fetch("all_ended_before", transaction=transaction))[0][0]

    async def count_leased(self) -> int:
        """Return how many rows this node holds under a lease."""
        rows = await self._fetch("count_leased", node=self._node)
        return rows[0][0]

    async def release_node(self) -> int:
        """Release all rows of this node and delete its heartbeat. Return how many rows are PENDING again."""
        try:
            return len(await self._fetch("release_node", node=self._node, hand_back=True))
        except psycopg.Error as error:
            if not may_be_one_rows_fault(error):
                raise
            return len(await self._fetch("release_node", node=self._node, hand_back=False))


def parse_claim(rows: Sequence[TupleRow]) -> Claim:
    """Return the claim that the rows of claim.sql describe: one row per notification, at least one row in all."""
    members: dict[str, list[ClaimedRow]] = {}
    for _, _, _, notification_id, workflow_id, recipient_bytes, enterprise in rows:
        if notification_id is not None:
            members.setdefault(workflow_id, []).append(ClaimedRow(notification_id, recipient_bytes or 0, enterprise))
    return Claim(rows[0][0], [start_for(workflow_id, claimed) for workflow_id, claimed in members.items()])


def start_for(workflow_id: str, rows: Sequence[ClaimedRow]) -> WorkflowStart:
    """Return the start of a workflow that carries these rows."""
    is_small = len(rows) <= MAX_FIRST_TRY_ROWS and sum(row.recipient_bytes for row in rows) <= MAX_FIRST_TRY_BYTES
    enterprises = {row.enterprise for row in rows}
    enterprise = enterprises.pop() if len(enterprises) == 1 else ""
    return WorkflowStart(workflow_id, [row.id for row in rows], is_small, enterprise)
