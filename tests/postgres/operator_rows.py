"""The operator's queries on a test's database, and rows for them."""

from datetime import timedelta
from typing import Any

from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import borrow_connection
from tests.support.outbox_fixture import RELATIONS, OutboxFixture


def queries_on(outbox_fixture: OutboxFixture) -> OperatorQueries:
    """Return the operations on a pool, whose sessions say the opposite of what operations need."""
    return OperatorQueries(lambda: borrow_connection(outbox_fixture.pool), RELATIONS, actor="ana@queries")


async def ended(
    outbox_fixture: OutboxFixture, state: RecipientState, wait: timedelta | None = None, **columns: Any
) -> Notification:
    """Send a notification, and conclude it."""
    row = await outbox_fixture.acquired(**columns)
    await outbox_fixture.settle(row, state, wait)
    return row


async def actions(outbox_fixture: OutboxFixture) -> list[Any]:
    return await outbox_fixture.rows(
        "select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id"
    )
