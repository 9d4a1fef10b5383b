"""The methods of `OutboxStore`, answered by the ledger in memory, and the application that owns the rows."""

import random
from datetime import timedelta
from typing import Any

from dispatcher.models.claims import Claim, ClaimLimits, WorkflowStart
from tests.model.ledger import Ledger
from tests.model.ledger_rows import Row
from tests.model.store_methods import AsyncMethod, answered_by, require_store_method


class ModelOutbox:
    """The outbox as one node sees it, in memory. A random generator chooses which due rows a claim takes."""

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
        free: list[int] = []
        starts: list[WorkflowStart] = []
        for unit in picked:
            head = self.ledger.heads.get(unit[0])
            if head is not None and self._failed(unit[0]) and self.ledger.keeps_batch(head):
                starts.append(WorkflowStart(head.workflow_id, unit, first_try=True))
            elif total == 1 or sizes.batch_size == 1:
                starts.append(WorkflowStart("", unit, first_try=True))
            else:
                free += unit
        for number, some in enumerate(self._batches(free, sizes.batch_size)):
            starts.append(WorkflowStart(f"notifications-{claim}-{number}-0", some, first_try=True))
        return [self._named(start) for start in starts]

    def _batches(self, ids: list[int], size: int) -> list[list[int]]:
        """Return the full batches of each enterprise, and those that the rows left over of all of them share."""
        groups: dict[str, list[int]] = {}
        for row_id in ids:
            groups.setdefault(self.ledger.rows[row_id].enterprise or "", []).append(row_id)
        full = {tenant: len(rows) // size * size for tenant, rows in groups.items()}
        own = [rows[first : first + size] for t, rows in groups.items() for first in range(0, full[t], size)]
        rest = [row_id for tenant, rows in sorted(groups.items()) for row_id in rows[full[tenant] :]]
        return own + [rest[first : first + size] for first in range(0, len(rest), size)]

    def _failed(self, row_id: int) -> bool:
        return self.ledger.rows[row_id].status != "PENDING"

    def _named(self, start: WorkflowStart) -> WorkflowStart:
        """Give a single row's workflow the name that its head will have."""
        if start.workflow_id:
            return start
        [row_id] = start.notification_ids
        row, head = self.ledger.rows[row_id], self.ledger.heads.get(row_id)
        birth, generation = row.birth, 1
        if head is not None:
            goes_on = row.status != "PENDING" or not head.settled
            generation = head.generation + (0 if goes_on else 1)
            birth = head.birth if goes_on and head.recipient_count != 0 else birth
        return WorkflowStart(f"notification-{row_id}-{birth}-{generation}", [row_id], first_try=True)

    def __getattr__(self, name: str) -> AsyncMethod:
        """Answer every other method of the store with the ledger's function of that name."""
        require_store_method(name)
        return answered_by(name, getattr(self.ledger, name), node=self.node)


class Owner:
    """The application that owns the rows, and the passing of time."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def outbox(self, node: str, luck: random.Random) -> ModelOutbox:
        """Return what a node works with."""
        return ModelOutbox(self.ledger, node, luck)

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
