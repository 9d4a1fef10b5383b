"""One test's database: the owner's session, our `Outbox` as one or several nodes, and a look into the ledger."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.decisions.final_status import decide_status
from dispatcher.models.claims import Claim, ClaimLimits, ExpiredLease
from dispatcher.models.notification import DEFAULT_LIMITS, Notification, RecipientState, RowLimits
from dispatcher.postgres.outbox import OutboxStore, TableNames
from dispatcher.postgres.pool import Pool, check_installed, open_pool

LEASE = timedelta(seconds=60)
RELATIONS = TableNames(
    sql.Identifier("notify", "ent_notification"), sql.Identifier("notify", "ent_notification_workflow")
)
WORKFLOW = "default-in-app"
INELIGIBLE: dict[str, dict[str, Any]] = {
    "unpublished": {"publish_status": "DRAFT"},
    "deactivated": {"deactivated": True},
    "rescheduled": {"scheduled_for": "2999-01-01"},
    "rescheduled by half a day": {"scheduled_for": datetime.now(UTC) + timedelta(hours=12)},
    "postponed for ever": {"scheduled_for": "infinity"},
}
NOT_OURS: dict[str, dict[str, Any]] = {
    "retracted": {"notification_status": "RETRACTED"},
    "pending again": {"notification_status": "PENDING"},
    "sent by hand": {"notification_status": "SENT"},
}


@dataclass
class OutboxFixture:
    """The tools of one test."""

    url: str
    owner: psycopg.AsyncConnection[Any]
    pool: Pool
    outbox: OutboxStore
    claims: int = 0

    async def node(self, name: str, *enterprises: UUID, limits: RowLimits = DEFAULT_LIMITS) -> OutboxStore:
        """Return the outbox as another node sees it, with the table's labels as they are now."""
        status = await check_installed(self.pool, "notify.ent_notification")
        return OutboxStore(
            self.pool, relations=RELATIONS, status=status, node=name, enterprises=enterprises, limits=limits
        )

    async def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """Run one statement of the owner and return its rows."""
        cursor = await self.owner.execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def value(self, statement: str, *parameters: Any) -> Any:
        """Run one statement of the owner and return its only value."""
        [[value]] = await self.rows(statement, *parameters)
        return value

    async def notify(self, **columns: Any) -> int:
        """Insert one published notification; return its id."""
        row: dict[str, Any] = {
            "name": f"n {uuid4().hex}",
            "publish_status": "PUBLISH",
            "payload": '{"title": "Lift"}',
            "recipients": [uuid4()],
        }
        if "notification_workflow_id" not in columns:
            row["notification_workflow_id"] = await self.workflow()
        row |= columns
        statement = sql.SQL("insert into notify.ent_notification ({}) overriding system value values ({}) returning id")
        names, places = map(sql.Identifier, row), [sql.Placeholder()] * len(row)
        cursor = await self.owner.execute(
            statement.format(sql.SQL(", ").join(names), sql.SQL(", ").join(places)), list(row.values())
        )
        [[notification_id]] = await cursor.fetchall()
        return notification_id

    async def many(self, count: int, *, enterprise: UUID | None = None) -> list[int]:
        """Insert `count` published notifications in one statement; return their ids."""
        rows = await self.rows(
            "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
            " enterprise_id) select 'n ' || gen_random_uuid(), 'PUBLISH', %s, '{}', array[gen_random_uuid()], %s"
            " from generate_series(1, %s) returning id",
            await self.workflow(),
            enterprise,
            count,
        )
        return [notification_id for (notification_id,) in rows]

    async def workflow(self, key: str = WORKFLOW) -> int:
        """Return the id of a seeded workflow row."""
        return await self.value("select id from notify.ent_notification_workflow where workflow_key = %s", key)

    async def change(self, notification_id: int, **columns: Any) -> None:
        """Update a notification as its owner."""
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
        statement = sql.SQL("update notify.ent_notification set {} where id = %s").format(changes)
        await self.owner.execute(statement, [*columns.values(), notification_id])

    async def status(self, notification_id: int) -> str:
        """Return a notification's status."""
        return (await self.row(notification_id))["notification_status"]

    async def row(self, notification_id: int) -> dict[str, Any]:
        """Return a notification's columns that we write."""
        statement = """
            select notification_status, processed_at, updated_at, error_details, transaction_id, channels::text[]
            from notify.ent_notification where id = %s"""
        async with self.owner.cursor(row_factory=dict_row) as cursor:
            [row] = await (await cursor.execute(statement, [notification_id])).fetchall()
        return row

    async def head(self, notification_id: int) -> dict[str, Any]:
        """Return a notification's row in the ledger."""
        async with self.owner.cursor(row_factory=dict_row) as cursor:
            await cursor.execute("select * from dispatcher.delivery where notification_id = %s", [notification_id])
            [row] = await cursor.fetchall()
        return row

    async def entries(self, notification_id: int) -> list[dict[str, Any]]:
        """Return a notification's recipients in the ledger."""
        statement = "select * from dispatcher.recipient where notification_id = %s order by generation, ordinal"
        async with self.owner.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, [notification_id])
            return await cursor.fetchall()

    async def claim(
        self,
        outbox: OutboxStore | None = None,
        *,
        limit: int = 1000,
        capacity: int = 100_000,
        batch_size: int = 100,
    ) -> Claim:
        """Claim what is due."""
        self.claims += 1
        sizes = ClaimLimits(limit, capacity, batch_size)
        return await (outbox or self.outbox).claim(f"c{self.claims}", LEASE, sizes)

    async def acquire(self, *ids: int, outbox: OutboxStore | None = None) -> list[Notification]:
        """Take claimed rows as the runs of their workflows do; closed ones are left out."""
        found: list[Notification] = []
        for notification_id in ids:
            workflow_id = (await self.head(notification_id))["workflow_id"]
            taken = await (outbox or self.outbox).acquire([notification_id], workflow_id, LEASE)
            found += [item.notification for item in taken if item.eligible]
        return found

    async def acquired(self, **columns: Any) -> Notification:
        """Insert, claim and take one notification."""
        notification_id = await self.notify(**columns)
        assert notification_id in ids_of(await self.claim())
        [notification] = await self.acquire(notification_id)
        return notification

    async def settle(self, row: Notification, state: RecipientState, wait: timedelta | None = None) -> None:
        """Send to all of a row's recipients and conclude it with this state for each."""
        await self.outbox.record_calls(calls_of(row))
        for recipient in row.recipients:
            recipient.state, recipient.outcome = state, "processed" if state is RecipientState.ACCEPTED else "http_503"
            recipient.error = None if state is RecipientState.ACCEPTED else "HTTP 503: later"
        row.final_status = decide_status(row, wait)
        await self.outbox.settle(members_of(row), [row])

    async def expire(self, *ids: int) -> None:
        """Let leases run out."""
        await self.rows(
            "update dispatcher.delivery set lease_until = clock_timestamp() - interval '1 s'"
            " where notification_id = any(%s) and lease_until is not null",
            list(ids),
        )

    async def snapshot(self) -> list[Any]:
        """Return everything that our statements can change: equal means that nothing was touched."""
        return await self.rows(
            "select 'n', id, xmin::text, notification_status::text from notify.ent_notification"
            " union all select 'd', notification_id, xmin::text, fence::text from dispatcher.delivery"
            " union all select 'r', notification_id, xmin::text, state from dispatcher.recipient order by 1, 2, 3"
        )


def ids_of(claim: Claim) -> list[int]:
    """Return what a claim took."""
    return [notification_id for start in claim.starts for notification_id in start.notification_ids]


def members_of(*rows: Notification) -> list[Member]:
    """Return every recipient of the rows with its row."""
    return [Member(row, recipient) for row in rows for recipient in row.recipients]


def calls_of(*rows: Notification) -> list[Call]:
    """Return one call per recipient."""
    return [Call((member,)) for member in members_of(*rows)]


def fenced_out(row: Notification) -> Notification:
    """Return the row as a run sees it that was fenced out meanwhile."""
    return Notification(
        row.id, row.generation, row.fence - 1, row.attempts, row.since_first_claim, row.workflow_key, row.payload,
        recipients=list(row.recipients),
    )  # fmt: skip


def late(*rows: Notification, workflow_id: str = "any", first_try: bool = True) -> ExpiredLease:
    """Return what a sweep knows about rows whose lease ran out."""
    return ExpiredLease(workflow_id, first_try, [row.id for row in rows], [row.fence for row in rows])


@asynccontextmanager
async def open_outbox_fixture(url: str) -> AsyncGenerator[OutboxFixture]:
    """Open one test's sessions and pool."""
    pool = await open_pool(url)
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as owner:
            status = await check_installed(pool, "notify.ent_notification")
            yield OutboxFixture(url, owner, pool, OutboxStore(pool, relations=RELATIONS, status=status, node="here"))
    finally:
        await pool.close(timeout=2)
