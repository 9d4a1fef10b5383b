"""The openings by which fault tests recognise our statements are sent as they stand in the files."""

import pytest

from dispatcher.postgres.pool import check_installed
from dispatcher.postgres.statements import compose_statements
from tests.support.outbox_fixture import RELATIONS, OutboxFixture
from tests.support.statement_openings import opening


@pytest.mark.parametrize("statement", ["claim", "acquire", "record_calls", "settle"])
async def test_composed_statement_begins_with_its_opening(outbox_fixture: OutboxFixture, statement: str):
    status = await check_installed(outbox_fixture.pool, "notify.ent_notification")
    composed = compose_statements(RELATIONS, status, allow_list=False)[statement]
    assert composed.startswith(opening(statement))
