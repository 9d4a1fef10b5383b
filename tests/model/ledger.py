"""The statements of dispatcher/postgres/queries/ in plain Python: an outbox and a ledger with a clock of their own.

It does not replace PostgreSQL: it is compared with it, statement by statement
(tests/model/model_vs_postgres.py), and to try many more histories of the decision core than a database could.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.decisions.validation import AcquiredRow, parse_row
from dispatcher.models.claims import ExpiredLease, ForeignStatus, WorkflowStart
from dispatcher.models.notification import Notification
from tests.model.ledger_rows import Entry, Head, Row

WORKFLOW = "default-in-app"
SETTLED = ("accepted", "refused", "cancelled")
STORED = {"SENT": "SENT", "FAILED": "FAILED", "PARTIAL": "FAILED"}
"""XNovu's enum has no PARTIAL."""


@dataclass
class Ledger:
    """Outbox, ledger and clock. Statements see a moment later than the one before."""

    now: float = 0
    rows: dict[int, Row] = field(default_factory=dict[int, Row])
    heads: dict[int, Head] = field(default_factory=dict[int, Head])
    entries: dict[tuple[int, int], dict[str, Entry]] = field(default_factory=dict[tuple[int, int], dict[str, Entry]])

    def entries_of(self, head: Head) -> dict[str, Entry]:
        """Return the recipients of the head's generation."""
        return self.entries.setdefault((head.id, head.generation), {})

    def units(self) -> list[list[int]]:
        """Return what may be claimed now, each part whole or not at all: a row, or rows that may repeat a call."""
        units = [[row.id] for row in self.rows.values() if row.status == "PENDING" and row.eligible(self.now)]
        batches: dict[str, list[Head]] = {}
        for head in self.heads.values():
            if head.next_attempt is not None and self._may_go_on(head):
                name = head.batch if self.keeps_batch(head) else None
                batches.setdefault(name or f"row {head.id}", []).append(head)
        due = [batch for batch in batches.values() if all((head.next_attempt or 0) <= self.now for head in batch)]
        return units + [[head.id for head in batch] for batch in due]

    def keeps_batch(self, head: Head) -> bool:
        """Whether a call of the row has an unknown outcome, so that its batch may be needed to repeat it."""
        states = {entry.state for entry in self.entries_of(head).values()}
        return head.batch is not None and not states.isdisjoint(("sending", "unknown"))

    def _may_go_on(self, head: Head) -> bool:
        row = self.rows.get(head.id)
        return row is not None and row.status in ("FAILED", "PARTIAL") and row.eligible(self.now)

    def claim(self, starts: Iterable[WorkflowStart], node: str, lease: timedelta) -> None:
        """Note that these rows were claimed, for these workflows."""
        for start in starts:
            for row_id in start.notification_ids:
                head = self._claimed(self.rows[row_id])
                _, is_batch, name = start.workflow_id.partition("notifications-")
                head.batch = name if is_batch else None
                head.owner, head.lease = node, self.now + lease.total_seconds()
                head.next_attempt, head.settled, head.dead = None, False, False

    def _claimed(self, row: Row) -> Head:
        head = self.heads.get(row.id)
        if head is None:
            head = self.heads[row.id] = Head(row.id, row.birth, self.now, attempts=1)
        else:
            head.fence += 1
            if row.status != "PENDING" or not head.settled:
                head.first_claimed = head.first_claimed if head.attempts else self.now
                head.attempts += 1
            else:
                head.generation += 1
                if head.birth != row.birth and not row.has_outcome:
                    head.first_generation = head.generation
                head.attempts, head.first_claimed = 1, self.now
                head.recipient_count, head.outcome = 0, None
            if head.recipient_count == 0:
                head.birth = row.birth
        row.status = "PROCESSING"
        return head

    def acquire(
        self, ids: list[int], workflow_id: str, node: str, lease: timedelta, last_attempt: int
    ) -> list[AcquiredRow]:
        """Take over rows under a new fence."""
        taken: list[AcquiredRow] = []
        for row_id in sorted(ids):
            head = self.heads.get(row_id)
            if head and head.workflow_id == workflow_id and not head.settled and self._in_work(row_id):
                head.fence += 1
                head.owner, head.lease = node, self.now + lease.total_seconds()
                missing = self._count_recipients(head)
                taken.append(
                    parse_row(
                        self._columns(self.rows[row_id], head)
                        | {
                            "recipients_missing": missing,
                            "has_content": head.attempts <= last_attempt,
                        }
                    )
                )
        return taken

    def _count_recipients(self, head: Head) -> int | None:
        """Return how many recipients the ledger lost; a history loses none."""
        missing = None if head.recipient_count is None else head.recipient_count - len(self.entries_of(head))
        assert not missing, head
        head.recipient_count = None
        return missing

    def _columns(self, row: Row, head: Head) -> dict[str, Any]:
        ledger = [
            [
                name, entry.state, entry.epoch, [entry.key, entry.place, entry.body_hash],
                [self.now - entry.last_call, self.now - entry.first_call], entry.outcome, entry.error,
                entry.attempts,
            ]
            for name, entry in sorted(self.entries_of(head).items(), key=lambda item: (item[1].ordinal, item[0]))
        ]  # fmt: skip
        return {
            "notification_id": row.id,
            "birth": head.birth,
            "generation": head.generation,
            "fence": head.fence,
            "attempts": head.attempts,
            "since_first_claim": timedelta(seconds=self.now - head.first_claimed),
            "age_seconds": 0.0,
            "eligible": row.eligible(self.now),
            "has_workflow": row.has_workflow,
            "workflow_key": WORKFLOW if row.has_workflow else None,
            "workflow_usable": row.has_workflow,
            "workflow_shared": True,
            "enterprise": "",
            "payload": row.payload,
            "payload_bytes": len(row.payload),
            "overrides": None,
            "overrides_bytes": 0,
            "recipient_count": len(row.recipients or []),
            "recipients": row.recipients,
            "ledger": ledger or None,
        }

    def record_calls(self, calls: Iterable[Call]) -> set[tuple[int, str]]:
        """Write calls down; return who may be sent to."""
        allowed: set[tuple[int, str]] = set()
        for call in calls:
            for place, member in enumerate(call.members):
                row, person = member.notification, member.recipient
                head = self._fenced_head(row.id, row.fence)
                if head is None or not self._in_work(row.id) or not self.rows[row.id].eligible(self.now):
                    continue
                entry = self.entries_of(head).setdefault(
                    person.id, Entry(person.ordinal, person.transaction_id, self.now)
                )
                if entry.state in SETTLED and entry.outcome != "withdrawn":
                    continue
                entry.state, entry.epoch, entry.key, entry.place = "sending", person.epoch, call.key, place
                entry.body_hash, entry.last_call, entry.attempts = row.body_hash, self.now, entry.attempts + 1
                allowed.add((row.id, person.id))
        return allowed

    def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> list[Notification]:
        """Write outcomes and conclusions; return the rows that were ours to write."""
        written: list[Notification] = []
        for member in members:
            head = self._fenced_head(member.notification.id, member.notification.fence)
            entry = self.entries_of(head).get(member.recipient.id) if head else None
            if entry is not None:
                entry.state, entry.epoch = member.recipient.state.value, member.recipient.epoch
                entry.outcome, entry.error = member.recipient.outcome, member.recipient.error
                if entry.state in ("accepted", "refused", "cancelled"):  # its call is never repeated
                    entry.key, entry.place, entry.body_hash = "", None, None
                entry.attempts = max(0, entry.attempts - (entry.outcome in ("not_sent", "http_409", "http_429")))
        for row in rows:
            head = self._fenced_head(row.id, row.fence)
            if head is None or row.final_status is None:
                continue
            written_over = ("PROCESSING",) if head.settled else ("PROCESSING", "PENDING")
            head.settled, head.owner, head.lease = True, None, None
            head.outcome = STORED[row.final_status.status]
            head.recipient_count = len(self.entries_of(head))
            wait = row.final_status.retry_in
            head.next_attempt = None if wait is None else self.now + wait.total_seconds()
            head.dead = wait is None and STORED[row.final_status.status] != "SENT"
            if row.id in self.rows and self.rows[row.id].status in written_over:
                self.rows[row.id].status = STORED[row.final_status.status]
                self.rows[row.id].has_outcome = True
                written.append(row)
        return written

    def release(self, notifications: Sequence[Notification]) -> None:
        """Release rows that a run acquired."""
        for notification in notifications:
            head = self._fenced_head(notification.id, notification.fence)
            if head is not None:
                self._free(head)

    def release_unstarted(self, start: WorkflowStart) -> None:
        """Release rows whose workflow did not start."""
        for row_id in start.notification_ids:
            head = self.heads.get(row_id)
            if head is not None and not head.settled and head.workflow_id == start.workflow_id:
                self._free(head)

    def _free(self, head: Head) -> None:
        head.fence += 1
        head.owner, head.lease, head.attempts = None, None, max(0, head.attempts - 1)
        self._reopen(head.id)

    def rescue(self, late: ExpiredLease, node: str, lease: timedelta) -> WorkflowStart | None:
        """Hold lost rows; let the others go."""
        lost: list[int] = []
        for row_id, fence in zip(late.ids, late.fences, strict=True):
            head = self._fenced_head(row_id, fence)
            if head is None:
                continue
            head.fence += 1
            if not head.settled and self._in_work(row_id):
                lost.append(row_id)
                head.attempts += 1
                head.owner, head.lease = node, self.now + lease.total_seconds()
            else:
                head.owner, head.lease = None, None
                if not head.settled and row_id not in self.rows:
                    head.generation += 1
                    head.first_generation, head.attempts, head.recipient_count = head.generation, 0, 0
        return WorkflowStart(late.workflow_id, sorted(lost), late.first_try) if lost else None

    def uncount_rescue(self, late: ExpiredLease) -> None:
        """Take back the attempts of a rescue without a start."""
        for row_id, fence in zip(late.ids, late.fences, strict=True):
            head = self._fenced_head(row_id, fence + 1)
            if head is not None and head.lease is not None:
                head.attempts = max(0, head.attempts - 1)

    def renew_leases(self, ids: list[int], fences: list[int], lease: timedelta) -> None:
        """Keep rows."""
        for row_id, fence in zip(ids, fences, strict=True):
            head = self._fenced_head(row_id, fence)
            if head is not None and head.lease is not None:
                head.lease = self.now + lease.total_seconds()

    def end_reading(self) -> None:
        """Do nothing: the model does not know which rows a process may have died of."""

    def find_expired(self) -> list[ExpiredLease]:
        """Return workflows all of whose leases ran out."""
        runs: dict[str, list[Head]] = {}
        for head in self.heads.values():
            if head.lease is not None:
                runs.setdefault(head.workflow_id, []).append(head)
        return [
            ExpiredLease(name, all(h.batch is None for h in heads), [h.id for h in heads], [h.fence for h in heads])
            for name, heads in runs.items()
            if all((head.lease or 0) < self.now for head in heads)
        ]

    def find_foreign_statuses(self, after: int, limit: int) -> tuple[list[ForeignStatus], int]:
        """Return rows with another status than that of their outcome, unless it is a wish."""
        walked = sorted(row_id for row_id in self.heads if row_id > after)[:limit]
        found: list[ForeignStatus] = []
        for head in sorted(self.heads.values(), key=lambda head: head.id):
            row, put_back = self.rows.get(head.id), head.put_back_in == head.generation
            if row is None or not head.settled or head.lease is not None:
                continue
            looked_at = head.id in walked or (row.status == "PROCESSING" and not put_back)
            if looked_at and row.status not in ("PENDING", "RETRACTED", head.outcome):
                found.append(ForeignStatus(head.id, head.fence, row.status, str(head.outcome), put_back))
        return found, walked[-1] if len(walked) == limit else 0

    def put_statuses_back(self, found: Sequence[ForeignStatus]) -> set[int]:
        """Write the status of the outcome."""
        for each in found:
            self.heads[each.notification_id].put_back_in = self.heads[each.notification_id].generation
            self.rows[each.notification_id].status = each.ours
        return {each.notification_id for each in found}

    def adopt_orphans(self, lease: timedelta) -> int:
        """Give a lease to PROCESSING rows that have none."""
        adopted = 0
        for row in self.rows.values():
            head = self.heads.get(row.id)
            if row.status != "PROCESSING" or (head is not None and (head.lease is not None or head.settled)):
                continue
            if head is None:
                head = self.heads[row.id] = Head(row.id, row.birth, self.now)
            head.owner, head.lease = "nobody", self.now + lease.total_seconds()
            adopted += 1
        return adopted

    def release_node(self, node: str) -> int:
        """Release the rows of a node; a row with a call of unknown outcome is left to a sweep."""
        freed = 0
        for head in self.heads.values():
            if head.owner != node or head.lease is None:
                continue
            head.fence += 1
            if any(entry.state in ("sending", "unknown") for entry in self.entries_of(head).values()):
                head.lease = self.now
                continue
            head.lease, head.attempts = None, max(0, head.attempts - 1)
            freed += self._reopen(head.id)
        return freed

    def _fenced_head(self, row_id: int, fence: int) -> Head | None:
        head = self.heads.get(row_id)
        return head if head is not None and head.fence == fence else None

    def _in_work(self, row_id: int) -> bool:
        row = self.rows.get(row_id)
        return row is not None and row.status == "PROCESSING"

    def _reopen(self, row_id: int) -> bool:
        if not self._in_work(row_id):
            return False
        self.rows[row_id].status = "PENDING"
        return True
