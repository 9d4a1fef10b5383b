"""Rows that ended long ago, and pruning on a test's database."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres.pruning import BEFORE_ALL_IDS, LedgerPruning
from tests.support.outbox_fixture import RELATIONS, OutboxFixture, calls_of, members_of

ACCEPTED, REFUSED, UNKNOWN = RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.UNKNOWN
MONTH = timedelta(days=30)
Make = Callable[[OutboxFixture], Awaitable[int]]


def pruning_of(fixture: OutboxFixture, node: str | None = None) -> LedgerPruning:
    return LedgerPruning(fixture.pool, RELATIONS.outbox, age=MONTH, node=node)


async def prune(fixture: OutboxFixture) -> tuple[int, int]:
    """Walk once; return how many recipients and heads were deleted. The count before says the same."""
    pruning, counted, deleted = pruning_of(fixture), [0, 0], [0, 0]
    for work, sums in ((pruning.count, counted), (pruning.prune, deleted)):
        after: int | None = BEFORE_ALL_IDS
        while after is not None:
            step = await work(after)
            sums[0], sums[1], after = sums[0] + step.recipients, sums[1] + step.heads, step.walked_to
    assert counted == deleted
    return deleted[0], deleted[1]


async def make_old(fixture: OutboxFixture, days: int = 31) -> None:
    """Make all that the ledger has look as if it had happened some days before."""
    columns = ("first_claimed_at", "claimed_at", "settled_at", "dead_lettered_at")
    changes = ", ".join(f"{name} = {name} - interval '{days} days'" for name in columns)
    await fixture.rows(f"update dispatcher.delivery set {changes}")


async def settle(fixture: OutboxFixture, row: Notification, *states: RecipientState, wait: timedelta | None) -> None:
    await fixture.outbox.record_calls(calls_of(row))
    for recipient, state in zip(row.recipients, states, strict=True):
        recipient.state = state
    row.final_status = decide_status(row, wait)
    await fixture.outbox.settle(members_of(row), [row])


async def ended(fixture: OutboxFixture, *states: RecipientState, wait: timedelta | None = None) -> int:
    row = await fixture.acquired(recipients=[uuid4() for _ in states])
    await settle(fixture, row, *states, wait=wait)
    return row.id


async def sent(fixture: OutboxFixture) -> int:
    return await ended(fixture, ACCEPTED)
