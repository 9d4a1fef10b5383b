"""The same history on a real PostgreSQL: every statement runs there and in the model's ledger, and both are compared.

A database's clock cannot be moved, so time passes by moving every stored time back. PostgreSQL chooses
which due rows a claim takes, and in which batches: the choice is checked, and the model follows it.
"""

import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

from dispatcher.decisions.validation import AcquiredRow
from dispatcher.models.claims import Claim, ClaimLimits, ExpiredLease, WorkflowStart
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import StatusColumn
from tests.model.ledger import Ledger
from tests.model.ledger_rows import Head, Row
from tests.model.model_outbox import ModelOutbox, Owner
from tests.model.store_methods import AsyncMethod, require_store_method
from tests.support.outbox_fixture import RELATIONS, OutboxFixture

NEAR = 9.0
"""Seconds by which a stored time may differ: real milliseconds add up, and the machine may be slow."""
DRIFT = 2.0
COLUMNS = {
    "status": "notification_status", "published": "publish_status", "due": "scheduled_for",
    "deactivated": "deactivated", "payload": "payload", "recipients": "recipients",
}  # fmt: skip
MOVE = """
with moved as (
  update dispatcher.delivery set lease_until = lease_until - %(by)s, next_attempt_at = next_attempt_at - %(by)s,
    first_claimed_at = first_claimed_at - %(by)s, claimed_at = claimed_at - %(by)s, settled_at = settled_at - %(by)s,
    dead_lettered_at = dead_lettered_at - %(by)s),
called as (
  update dispatcher.recipient set first_called_at = first_called_at - %(by)s, last_called_at = last_called_at - %(by)s)
update notify.ent_notification set scheduled_for = scheduled_for - %(by)s where scheduled_for is not null"""
SEEN = """
select 'row', n.id, 0, '', json_build_array(n.notification_status, n.publish_status = 'PUBLISH', n.deactivated,
  extract(epoch from n.scheduled_for - clock_timestamp())) from notify.ent_notification n
union all
select 'head', d.notification_id, 0, '', json_build_array(d.birth, d.generation, d.fence, d.workflow_id, d.attempts,
  d.lease_owner, d.settled_at is not null, d.dead_lettered_at is not null,
  extract(epoch from d.lease_until - clock_timestamp()), extract(epoch from d.next_attempt_at - clock_timestamp()),
  extract(epoch from d.first_claimed_at - clock_timestamp()), d.recipient_count, d.first_generation,
  d.status_put_back_in)
  from dispatcher.delivery d
union all
select 'recipient', r.notification_id, r.generation, r.recipient, json_build_array(r.ordinal, r.transaction_id, r.epoch,
  r.call_key, r.call_ordinal, r.body_hash, r.state, r.attempts, r.outcome, r.error,
  extract(epoch from r.first_called_at - clock_timestamp()), extract(epoch from r.last_called_at - clock_timestamp()))
  from dispatcher.recipient r"""
Facts = dict[tuple[str, int, int, str], list[Any]]


class TwinOwner(Owner):
    """Writes into PostgreSQL and the model."""

    def __init__(self, ledger: Ledger, outbox_fixture: OutboxFixture, status: StatusColumn, workflow: int) -> None:
        super().__init__(ledger)
        self._outbox_fixture = outbox_fixture
        self._status = status
        self._workflow = workflow
        self._moved_at = time.monotonic()

    def outbox(self, node: str, luck: random.Random) -> ModelOutbox:
        outbox = OutboxStore(self._outbox_fixture.pool, relations=RELATIONS, status=self._status, node=node)
        return TwinOutbox(self, outbox, node, luck)

    async def insert(self, row: Row) -> None:
        now = self.ledger.now
        await self._outbox_fixture.rows(
            "insert into notify.ent_notification (id, name, notification_status, publish_status, scheduled_for,"
            " payload, recipients, notification_workflow_id, enterprise_id) overriding system value"
            " values (%s, %s, %s, 'PUBLISH', clock_timestamp() + %s, %s, %s, %s, %s)",
            row.id, row.birth, row.status, None if row.due is None else timedelta(seconds=row.due - now), row.payload,
            row.recipients, self._workflow if row.has_workflow else None, row.enterprise,
        )  # fmt: skip
        row.birth = await self._outbox_fixture.value(
            "select substr(encode(sha256(convert_to(i.id::text || '/' || extract(epoch from n.created_at)::text,"
            " 'UTF8')), 'hex'), 1, 12) from notify.ent_notification n, dispatcher.installation i where n.id = %s",
            row.id,
        )
        await super().insert(row)
        await self.compare()

    async def change(self, row_id: int, **columns: Any) -> None:
        [(name, value)] = columns.items()
        place, stored = "%s", value
        if name == "published":
            stored = "PUBLISH" if value else "DRAFT"
        elif name == "due":
            place, stored = (
                "clock_timestamp() + %s",
                None if value is None else timedelta(seconds=value - self.ledger.now),
            )
        await self._outbox_fixture.rows(
            f"update notify.ent_notification set {COLUMNS[name]} = {place} where id = %s", stored, row_id
        )
        await super().change(row_id, **columns)
        await self.compare()

    async def delete(self, row_id: int) -> None:
        await self._outbox_fixture.rows("delete from notify.ent_notification where id = %s", row_id)
        await super().delete(row_id)
        await self.compare()

    async def let_pass(self, seconds: float) -> None:
        """Move every stored time back, less what has really passed since the last time."""
        real, self._moved_at = time.monotonic() - self._moved_at, time.monotonic()
        async with self._outbox_fixture.owner.cursor() as cursor:
            await cursor.execute("set session_replication_role = replica")
            await cursor.execute(MOVE.encode(), {"by": timedelta(seconds=seconds - real)})
            await cursor.execute("set session_replication_role = origin")
        await super().let_pass(seconds)
        await self.compare()

    async def keep_time(self) -> None:
        """On a slow machine real time passes too: subtract it."""
        if time.monotonic() - self._moved_at > DRIFT:
            await self.let_pass(0)

    async def compare(self) -> None:
        """Compare everything."""
        stored: Facts = {
            (kind, row_id, generation, name): facts
            for kind, row_id, generation, name, facts in await self._outbox_fixture.rows(SEEN)
        }
        expected = facts_of(self.ledger)
        assert stored.keys() == expected.keys(), (stored.keys(), expected.keys())
        for key, facts in expected.items():
            assert same(stored[key], facts), f"{key}: PostgreSQL has {stored[key]}, the model {facts}"


class TwinOutbox(ModelOutbox):
    """Runs every method on PostgreSQL and on the model, and compares the answers and all stored rows."""

    def __init__(self, owner: TwinOwner, store: OutboxStore, node: str, luck: random.Random) -> None:
        super().__init__(owner.ledger, node, luck)
        self._owner = owner
        self._store = store

    def __getattr__(self, name: str) -> AsyncMethod:
        """Both have to give the same answer."""
        require_store_method(name)

        async def method(*args: Any) -> Any:
            return equal(await self._both(name, *args))

        return method

    async def _both(self, name: str, *args: Any) -> tuple[Any, Any]:
        await self._owner.keep_time()
        answers = await getattr(self._store, name)(*args), await super().__getattr__(name)(*args)
        await self._owner.compare()
        return answers

    async def claim(self, claim: str, lease: timedelta, sizes: ClaimLimits) -> Claim:
        """PostgreSQL chooses among the due rows; the model follows it."""
        await self._owner.keep_time()
        claimed = await self._store.claim(claim, lease, sizes)
        check_claim(claimed, self.ledger, sizes)
        self.ledger.claim(claimed.starts, self.node, lease)
        await self._owner.compare()
        return claimed

    async def acquire(self, *args: Any) -> list[AcquiredRow]:
        """Ages differ by the time that has really passed; they are compared as times.

        PostgreSQL leaves rows for later that a process may have died of; then it returns a part of the model's rows.
        """
        real, model = await self._both("acquire", *args)
        ids = {item.notification.id for item in real}
        assert bool(real) == bool(model)
        of_part = [item for item in model if item.notification.id in ids]
        assert [without_ages(item) for item in real] == [without_ages(item) for item in of_part]
        return real

    async def find_expired(self, *args: Any) -> list[ExpiredLease]:
        """The order is not compared."""
        real, model = await self._both("find_expired", *args)
        assert {expired_key(late) for late in real} == {expired_key(late) for late in model}
        return sorted(real, key=lambda late: late.workflow_id)


def check_claim(claim: Claim, ledger: Ledger, sizes: ClaimLimits) -> None:
    """Check that a claim took due rows only, failed batches whole, each once, and all when there was room for all."""
    units = {row_id: unit for unit in ledger.units() for row_id in unit}
    taken = [row_id for start in claim.starts for row_id in start.notification_ids]
    assert len(taken) == len(set(taken)) <= sizes.limit
    assert set(taken) <= units.keys(), f"took {taken} of {units}"
    assert all(set(units[row_id]) <= set(taken) for row_id in taken), f"took {taken} of {units}"
    assert len(units) > claim.free_capacity or set(taken) == units.keys(), f"took {taken} of {units}"
    for start in claim.starts:
        assert len(start.notification_ids) <= max(sizes.batch_size, len(units[start.notification_ids[0]]))
        assert is_batch(start) or len(start.notification_ids) == 1
    check_batches(claim, ledger, sizes.batch_size)


def check_batches(claim: Claim, ledger: Ledger, size: int) -> None:
    """Check that an enterprise's full batches are its own, and that only such a batch or no other has room left."""
    free = [s for s in claim.starts if is_batch(s) and not any(ledger.keeps_batch(h) for h in heads(ledger, s))]
    shared = [start for start in free if len({row.enterprise for row in rows(ledger, start)}) > 1]
    left = Counter(row.enterprise for start in shared for row in rows(ledger, start))
    assert all(count < size for count in left.values()), f"{left} share batches of {size}"
    assert sum(len(start.notification_ids) < size for start in free) <= 1, f"{free} could share a batch"
    for start in claim.starts:
        owners = {row.enterprise or "" for row in rows(ledger, start)}
        assert start.enterprise == (owners.pop() if len(owners) == 1 else "")


def is_batch(start: WorkflowStart) -> bool:
    """Whether a workflow has the name of a batch."""
    return start.workflow_id.startswith("notifications-")


def heads(ledger: Ledger, start: WorkflowStart) -> list[Head]:
    """Return the heads of a workflow's rows that were claimed before."""
    return [ledger.heads[row_id] for row_id in start.notification_ids if row_id in ledger.heads]


def rows(ledger: Ledger, start: WorkflowStart) -> list[Row]:
    """Return a workflow's rows."""
    return [ledger.rows[row_id] for row_id in start.notification_ids]


def facts_of(ledger: Ledger) -> Facts:
    """Return what PostgreSQL should hold, as SEEN asks for it; times as seconds from now."""

    def ago(moment: float | None) -> float | None:
        return None if moment is None else float(moment - ledger.now)

    facts: Facts = {}
    for row in ledger.rows.values():
        facts["row", row.id, 0, ""] = [row.status, row.published, row.deactivated, ago(row.due)]
    for head in ledger.heads.values():
        facts["head", head.id, 0, ""] = [
            head.birth, head.generation, head.fence, head.workflow_id, head.attempts, head.owner, head.settled,
            head.dead, ago(head.lease), ago(head.next_attempt), ago(head.first_claimed), head.recipient_count,
            head.first_generation, head.put_back_in,
        ]  # fmt: skip
    for (row_id, generation), entries in ledger.entries.items():
        for name, entry in entries.items():
            facts["recipient", row_id, generation, name] = [
                entry.ordinal, entry.transaction, entry.epoch, entry.key, entry.place, entry.body_hash, entry.state,
                entry.attempts, entry.outcome, entry.error, ago(entry.first_call), ago(entry.last_call),
            ]  # fmt: skip
    return facts


def same(stored: list[Any], expected: list[Any]) -> bool:
    """Compare values; seconds may differ a little."""
    return all(
        a is not None and abs(a - b) < NEAR if isinstance(b, float) else a == b
        for a, b in zip(stored, expected, strict=True)
    )


def without_ages(taken: AcquiredRow) -> Any:
    """Return what a take says, without ages: they are compared as times."""
    row = taken.notification
    people = [(p.id, p.ordinal, p.transaction_id, p.state, p.epoch, p.call_key, p.call_hash) for p in row.recipients]
    return taken.eligible, row.id, row.generation, row.fence, row.attempts, row.validation_error, row.body_hash, people


def expired_key(late: ExpiredLease) -> Any:
    """Return a late run in a form that does not depend on order."""
    return late.workflow_id, late.first_try, tuple(sorted(zip(late.ids, late.fences, strict=True)))


def equal(answers: tuple[Any, Any]) -> Any:
    """Return the answer that both gave."""
    real, model = answers
    assert real == model, f"PostgreSQL answered {real}, the model {model}"
    return real
