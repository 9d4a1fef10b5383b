"""The histories of tests/model/test_model_in_memory.py on a real PostgreSQL, compared with the reference step by step.

`DISPATCHER_MODEL_EXAMPLES=1000` makes a long run with a random seed (see tests/model/state_machine.py).
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.postgres.pool import StatusColumn, check_installed
from tests.model.ledger import Ledger
from tests.model.model_outbox import Owner
from tests.model.model_vs_postgres import TwinOwner
from tests.model.state_machine import Machine, how_many
from tests.support.databases import cloned, make_outbox_template
from tests.support.outbox_fixture import OutboxFixture, open_outbox_fixture


@dataclass
class ModelDatabase:
    """One database for all histories, emptied before each."""

    loop: asyncio.AbstractEventLoop
    outbox_fixture: OutboxFixture
    status: StatusColumn
    workflow: int

    def owner(self) -> TwinOwner:
        """Empty the tables and return who writes into them."""
        tables = "notify.ent_notification, dispatcher.delivery, dispatcher.recipient"
        for table in tables.split(", "):
            self.loop.run_until_complete(self.outbox_fixture.rows(f"delete from {table}"))
        return TwinOwner(Ledger(), self.outbox_fixture, self.status, self.workflow)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[ModelDatabase]:
    """Open a database in a loop of its own: Hypothesis' tests are not coroutines."""
    loop, exits = asyncio.new_event_loop(), AsyncExitStack()

    async def opened() -> ModelDatabase:
        template = await make_outbox_template(postgres_server, "model_template")
        url = await exits.enter_async_context(cloned(postgres_server, template))
        outbox_fixture = await exits.enter_async_context(open_outbox_fixture(url))
        status = await check_installed(outbox_fixture.pool, "notify.ent_notification")
        return ModelDatabase(loop, outbox_fixture, status, await outbox_fixture.workflow())

    yield loop.run_until_complete(opened())
    loop.run_until_complete(exits.aclose())
    loop.close()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_postgres_keeps_every_invariant_and_agrees_with_the_model(database: ModelDatabase):
    class OnPostgres(Machine):
        def open_owner(self) -> Owner:
            return database.owner()

        def open_loop(self) -> asyncio.AbstractEventLoop:
            return database.loop

        def close_loop(self) -> None:
            """Keep it for the next history."""

    with capture_logs():
        run_state_machine_as_test(OnPostgres, settings=how_many(60))
