"""A view of the outbox with the methods of `dispatcher.postgres.outbox.Outbox`, answered by the reference alone."""

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.decisions.validation import AcquiredRow
from dispatcher.models.claims import Claim, ClaimLimits, ExpiredLease, WorkflowStart
from dispatcher.models.notification import Notification
from tests.model.ledger import Ledger, Row


class Desk:
    """One node in memory. Which due rows a claim takes, and in what parts, is left to luck."""

    def __init__(self, ledger: Ledger, node: str, luck: random.Random) -> None:
        self.ledger = ledger
        self.node = node
        self._luck = luck

    async def claim(self, claim: str, lease: timedelta, sizes: ClaimLimits) -> Claim:
        """Take due rows."""
        units = [unit for unit in self.ledger.units() if len(unit) <= sizes.limit]
        self._luck.shuffle(units)
        picked: list[list[int]] = []
        for unit in units:
            if sum(map(len, picked)) + len(unit) <= sizes.limit:
                picked.append(unit)
        starts = self._cut(claim, picked, sizes)
        self.ledger.claim(starts, self.node, lease)
        return Claim(sizes.limit, starts)

    def _cut(self, claim: str, picked: list[list[int]], sizes: ClaimLimits) -> list[WorkflowStart]:
        total = sum(map(len, picked))
        groups: dict[str | None, list[int]] = {}
        starts: list[WorkflowStart] = []
        for unit in picked:
            head = self.ledger.heads.get(unit[0])
            if head is not None and head.next_attempt is not None and head.batch and self._failed(unit[0]):
                starts.append(WorkflowStart(head.workflow_id, unit, single=False))
            elif total <= sizes.max_single_workflows:
                starts.append(WorkflowStart("", unit, single=True))
            else:
                groups.setdefault(self.ledger.rows[unit[0]].enterprise, []).extend(unit)
        for tenant, ids in enumerate(groups.values()):
            for part, first in enumerate(range(0, len(ids), sizes.batch_size)):
                some = ids[first : first + sizes.batch_size]
                starts.append(WorkflowStart(f"notifications-{claim}-{tenant}-{part}", some, single=False))
        return [self._named(start) for start in starts]

    def _failed(self, row_id: int) -> bool:
        return self.ledger.rows[row_id].status != "PENDING"

    def _named(self, start: WorkflowStart) -> WorkflowStart:
        """Give a solo row's workflow the name that its head will have."""
        if not start.single:
            return start
        [row_id] = start.notification_ids
        row, head = self.ledger.rows[row_id], self.ledger.heads.get(row_id)
        generation = 1
        if head is not None:
            goes_on = head.birth == row.birth and (row.status != "PENDING" or not head.settled)
            generation = head.generation + (0 if goes_on else 1)
        return WorkflowStart(f"notification-{id}-{row.birth}-{generation}", [row_id], single=True)

    async def acquire(self, ids: list[int], workflow_id: str, lease: timedelta) -> list[AcquiredRow]:
        """Take over a workflow's rows."""
        return self.ledger.acquire(ids, workflow_id, self.node, lease)

    async def record_calls(self, calls: Iterable[Call]) -> set[tuple[int, str]]:
        """Write calls down."""
        return self.ledger.record_calls(calls)

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> list[Notification]:
        """Write outcomes and conclusions."""
        return self.ledger.settle(members, rows)

    async def release(self, notifications: Sequence[Notification]) -> None:
        """Let go of rows."""
        self.ledger.release(notifications)

    async def release_unstarted(self, start: WorkflowStart) -> None:
        """Let go of what could not be started."""
        self.ledger.release_unstarted(start)

    async def rescue(self, late: ExpiredLease, lease: timedelta) -> WorkflowStart | None:
        """Hold lost rows."""
        return self.ledger.rescue(late, self.node, lease)

    async def renew_leases(self, ids: list[int], fences: list[int], lease: timedelta) -> None:
        """Keep rows."""
        self.ledger.renew_leases(ids, fences, lease)

    async def find_expired(self, limit: int) -> list[ExpiredLease]:
        """Return rows whose lease ran out."""
        return self.ledger.find_expired()

    async def adopt_orphans(self, lease: timedelta, limit: int) -> int:
        """Give rows that nobody holds a lease."""
        return self.ledger.adopt_orphans(lease)

    async def release_node(self) -> int:
        """Leave."""
        return self.ledger.release_node(self.node)


class Owner:
    """The application that owns the rows, and the passing of time."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def desk(self, node: str, luck: random.Random) -> Desk:
        """Return what a node works with."""
        return Desk(self.ledger, node, luck)

    async def insert(self, row: Row) -> None:
        """Insert a row."""
        self.ledger.rows[row.id] = row

    async def change(self, row_id: int, **columns: Any) -> None:
        """Update a row."""
        for name, value in columns.items():
            setattr(self.ledger.rows[row_id], name, value)

    async def delete(self, row_id: int) -> None:
        """Delete a row."""
        del self.ledger.rows[row_id]

    async def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        self.ledger.now += seconds
