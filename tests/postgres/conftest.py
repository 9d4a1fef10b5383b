"""The operator's queries on a test's database."""

import pytest

from dispatcher.postgres.operator_queries import OperatorQueries
from tests.postgres.operator_rows import queries_on
from tests.support.outbox_fixture import OutboxFixture


@pytest.fixture
async def queries(outbox_fixture: OutboxFixture) -> OperatorQueries:
    queries = queries_on(outbox_fixture)
    await queries.prepare()
    return queries
