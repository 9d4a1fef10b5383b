"""All SQL on the path of a notification: to the outbox and the ledger.

Every method is one statement from queries/, so it happens whole or not at all; each is guarded by the row's fence or by
the status it expects, so a late one changes nothing.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.errors import DeadlockDetected
from psycopg.rows import AsyncRowFactory, Row, TupleRow, dict_row, tuple_row

from dispatcher.config.table_names import CHANNEL
from dispatcher.decisions import validation
from dispatcher.decisions.call_planning import Call, Member
from dispatcher.models.claims import Claim, ClaimLimits, ExpiredLease, WorkflowStart
from dispatcher.models.notification import Notification, PendingCancel, Status
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, StatusColumn, borrow_connection
from dispatcher.postgres.statements import TableNames, compose_statements
from dispatcher.telemetry import metrics

MAX_READ_BYTES = 4_000_000
"""So much JSON of a batch is in memory at once, and one row more."""

TENANTS_PER_CLAIM = 20
"""So many enterprises have their turn in one claim; with more in backlog, several claims make a round."""

RECIPIENT_KEY = ("notifications", "recipients")
CALL_COLUMNS = (*RECIPIENT_KEY, "ordinals", "transactions", "epochs", "call_keys", "call_ordinals", "hashes")
OUTCOME_COLUMNS = (*RECIPIENT_KEY, "states", "epochs", "outcomes", "errors")
FINAL_COLUMNS = ("final_ids", "statuses", "error_details", "first_transactions", "retry_ins", "reasons")
CANCEL_COLUMNS = (
    *("notifications", "generations", "recipients", "leases"),
    *("states", "outcomes", "errors", "attempts", "retry_ins"),
)
"""The array parameters of the statements that write many rows at once, in the order of the values."""

DEADLOCK_RETRIES = 3
"""How often a statement runs again that was ended because it waited in a circle."""


class OutboxStore:
    """The outbox and its ledger, as one node sees them."""

    def __init__(
        self, pool: Pool, *, relations: TableNames, status: StatusColumn, node: str, enterprises: Sequence[UUID] = ()
    ) -> None:
        self._pool = pool
        self._node = node
        self._labels = status.labels
        # While all that is due fits into the room, nobody has to wait for a turn; and fewer questions are quicker.
        # An allow-list is always taken in turn, which looks at nobody else's rows.
        self._fair = bool(enterprises)
        self._next_tenant = ""
        self._claimed_up_to: datetime | None = None
        self._tenants = {"enterprises": [str(each) for each in enterprises], "all_enterprises": not enterprises}
        self._queries = compose_statements(relations, status, allow_list=bool(enterprises))

    async def claim(self, claim: str, lease: timedelta, sizes: ClaimLimits) -> Claim:
        """Take due rows, PENDING to PROCESSING, and return the workflows to start; `claim` is this claim's own name."""
        parameters = {
            "claim": claim,
            "node": self._node,
            "lease": lease,
            "limit": sizes.limit,
            "capacity": sizes.capacity,
            "max_single_workflows": sizes.max_single_workflows,
            "batch_size": sizes.batch_size,
            **self._tenants,
        }
        rows = [] if self._fair else await self._fetch("claim", **parameters)
        if not rows or parse_claim(rows).free_capacity == 0:
            rows = await self._fetch(
                "claim_fair", max_tenants=TENANTS_PER_CLAIM, next_tenant=self._next_tenant, **parameters
            )
            self._next_tenant = rows[0][1]
        taken, self._claimed_up_to = parse_claim(rows), rows[0][2]
        self._fair = taken.rows >= taken.free_capacity or bool(self._tenants["enterprises"])
        return taken

    async def acquire(self, ids: list[int], workflow_id: str, lease: timedelta) -> list[validation.AcquiredRow]:
        """Take over a workflow's rows under a new fence, and return those with the lowest ids, as many as are read at
        once; rows that are no longer ours to send are left out."""
        parameters = {"ids": ids, "workflow_id": workflow_id, "node": self._node, "lease": lease}
        limits = {"max_bytes": validation.MAX_BYTES, "max_read_bytes": MAX_READ_BYTES}
        rows = await self._execute("acquire", {**parameters, **limits}, dict_row)
        acquired_at = time.monotonic()
        return [validation.parse_row(row, acquired_at) for row in rows]

    async def record_calls(self, calls: Iterable[Call]) -> set[tuple[int, str]]:
        """Write down that these calls leave now; return the (notification, recipient) pairs that may be sent to."""
        members = [(call, index, member) for call in calls for index, member in enumerate(call.members)]
        values = [
            (
                *recipient_key(member),
                member.recipient.ordinal,
                member.recipient.transaction_id,
                member.recipient.epoch,
                call.key,
                index,
                member.notification.body_hash,
            )
            for call, index, member in members
        ]
        fences = ids_and_fences(member.notification for _, _, member in members)
        rows = await self._fetch("record_calls", **fences, **arrays(CALL_COLUMNS, values))
        return {(notification_id, recipient) for notification_id, recipient in rows}

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> list[Notification]:
        """Write the outcomes of `members` and the conclusions of `rows`; return, counted, which were ours."""
        outcomes = [
            (*recipient_key(member), person.state.value, person.epoch, person.outcome, person.error)
            for member in members
            for person in (member.recipient,)
        ]
        final = [
            (
                row.id,
                self._stored_status(end.status),
                end.error_details,
                end.first_transaction_id,
                end.retry_in,
                end.reason,
            )
            for row in rows
            if (end := row.final_status) is not None
        ]
        written = await self._fetch(
            "settle",
            **ids_and_fences([*(member.notification for member in members), *rows]),
            **arrays(OUTCOME_COLUMNS, outcomes),
            **arrays(FINAL_COLUMNS, final),
        )
        ids = {notification_id for (notification_id,) in written}
        ended = [row for row in rows if row.id in ids]
        for row in ended:
            metrics.count_final(row)
        return ended

    async def release(self, notifications: Sequence[Notification]) -> None:
        """Give up rows this run holds but may not send now; their attempt does not count."""
        await self._fetch("release", **ids_and_fences(notifications), workflow_id=None)

    async def release_unstarted(self, start: WorkflowStart) -> None:
        """Give up rows whose workflow could not be started; their attempt does not count."""
        ids = start.notification_ids
        await self._fetch("release", ids=ids, fences=[None] * len(ids), workflow_id=start.workflow_id)

    async def rescue(self, late: ExpiredLease, lease: timedelta) -> WorkflowStart | None:
        """Hold rows whose run is lost, as one more attempt; return the workflow to start again, None for none."""
        rows = await self._fetch("rescue", ids=late.ids, fences=late.fences, node=self._node, lease=lease)
        return WorkflowStart(late.workflow_id, [row[0] for row in rows], late.single) if rows else None

    async def renew_leases(self, ids: list[int], fences: list[int], lease: timedelta) -> None:
        """Keep rows for another lease. A failure is no loss: the next beat renews, and the fence guards the truth."""
        with contextlib.suppress(*CONNECTION_ERRORS):
            await self._run("renew_leases", ids=ids, fences=fences, lease=lease)

    async def find_expired(self, limit: int) -> list[ExpiredLease]:
        """Return rows whose lease ran out."""
        return [ExpiredLease(*row) for row in await self._fetch("find_expired", limit=limit)]

    async def adopt_orphans(self, lease: timedelta, limit: int) -> int:
        """Give PROCESSING rows that nobody holds a lease, so that they are rescued when it runs out."""
        return len(await self._fetch("adopt_orphans", lease=lease, limit=limit, **self._tenants))

    async def detect_retracted(self, limit: int) -> dict[int, int]:
        """Note retractions in rows and ledger; return the rows, each with how many recipients are to be taken back."""
        return dict(await self._fetch("detect_retracted", limit=limit, **self._tenants))

    async def acquire_cancels(self, limit: int, lease: timedelta) -> list[PendingCancel]:
        """Return recipients to be taken back at Novu now, for this caller alone as long as `lease`."""
        rows = await self._execute("acquire_cancels", {"limit": limit, "lease": lease, **self._tenants}, dict_row)
        return [PendingCancel(**row) for row in rows]

    async def record_cancels(self, cancels: Sequence[PendingCancel]) -> None:
        """Write down what taking them back taught us."""
        values = [
            (
                cancel.notification_id,
                cancel.generation,
                cancel.recipient,
                cancel.lease_until,
                str(cancel.state),
                cancel.outcome,
                cancel.error,
                cancel.attempts,
                cancel.retry_in,
            )
            for cancel in cancels
        ]
        await self._run("record_cancels", **arrays(CANCEL_COLUMNS, values))

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until the next row becomes due by itself; below zero when one did after the last claim."""
        rows = await self._fetch("seconds_until_due", claimed_up_to=self._claimed_up_to, **self._tenants)
        return rows[0][0]

    async def heartbeat(self, *, role: str, host: str, version: str, mode: str) -> bool:
        """Tell that this node lives; return whether it is the first of those that do."""
        rows = await self._fetch("heartbeat", node=self._node, role=role, host=host, version=version, mode=mode)
        return rows[0][0]

    async def withdraw_heartbeat(self) -> None:
        """Take back that this node lives; what it holds it keeps."""
        await self._run("withdraw_heartbeat", node=self._node)

    async def has_live_worker(self, believed: timedelta) -> bool:
        """Return whether a worker said within `believed` that it sends."""
        return (await self._fetch("has_live_worker", ttl=believed))[0][0]

    async def backlog_stats(self, *, all_rows: bool, living: timedelta, most_counted: int) -> dict[str, Any]:
        """Return what there is to tell of the outbox and the ledger; `all_rows` counts final rows too, which costs."""
        parameters = {"all_rows": all_rows, "node_ttl": living, "max_counted_rows": most_counted, **self._tenants}
        return (await self._execute("backlog_stats", parameters, dict_row))[0]

    async def mark_awake(self) -> None:
        """Tell the triggers that this node looks by itself; believed for 2 s."""
        await self._run("mark_awake", node=self._node)

    async def mark_asleep(self) -> None:
        """Tell the triggers to ring again."""
        await self._run("mark_asleep", node=self._node)

    async def notify_all(self) -> None:
        """Wake every node."""
        await self._run("notify_all", channel=CHANNEL)

    async def snapshot_xmax(self) -> str:
        """Return an id above that of every transaction which has begun to write."""
        return (await self._fetch("snapshot_xmax"))[0][0]

    async def all_ended_before(self, transaction: str) -> bool:
        """Return whether every transaction with an id below has ended."""
        return (await self._fetch("all_ended_before", transaction=transaction))[0][0]

    async def count_leased(self) -> int:
        """Return how many rows this node holds."""
        rows = await self._fetch("count_leased", node=self._node)
        return rows[0][0]

    async def release_node(self) -> int:
        """Let go of everything this node holds, and remove it; return how many rows are PENDING again."""
        return len(await self._fetch("release_node", node=self._node))

    def _stored_status(self, status: Status) -> str:
        """Return the label to store: FAILED for PARTIAL if the installed enum lacks it (error_details says PARTIAL)."""
        return (status if not self._labels or status in self._labels else Status.FAILED).value

    async def _run(self, name: str, **parameters: Any) -> None:
        await self._execute(name, parameters, tuple_row)

    async def _fetch(self, name: str, **parameters: Any) -> list[TupleRow]:
        return await self._execute(name, parameters, tuple_row)

    async def _execute(self, name: str, parameters: dict[str, Any], row_factory: AsyncRowFactory[Row]) -> list[Row]:
        """Run one statement and return its rows.

        An owner who edits rows in work can make two of ours wait in a circle; the one that PostgreSQL then ends has
        done nothing, and runs again.
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


def parse_claim(rows: Sequence[TupleRow]) -> Claim:
    """Return what a claim's rows tell."""
    starts: dict[str, WorkflowStart] = {}
    for _, _, _, notification_id, workflow_id, solo, enterprise in rows:
        if notification_id is not None:
            start = starts.setdefault(workflow_id, WorkflowStart(workflow_id, [], solo, enterprise))
            start.notification_ids.append(notification_id)
    return Claim(rows[0][0], list(starts.values()))


def recipient_key(member: Member) -> tuple[int, str]:
    """Return the ids by which the ledger finds a recipient of a generation that a run holds."""
    return member.notification.id, member.recipient.id


def arrays(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Return one array parameter per name: the values of that column of `rows`."""
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def ids_and_fences(notifications: Iterable[Notification]) -> dict[str, list[int]]:
    """Return each notification's id and fence, once."""
    held = {notification.id: notification.fence for notification in notifications}
    return {"ids": list(held), "fences": list(held.values())}
