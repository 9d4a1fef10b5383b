"""The histories of tests/core/test_model_in_memory.py on a real PostgreSQL, compared with the reference step by step.

`DISPATCHER_MODEL_EXAMPLES=1000` makes a long run with a random seed (see tests/reference/machine.py).
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis.stateful import run_state_machine_as_test
from ledger_books import Books, open_books
from ledger_twin import TwinOwner
from reference.desk import Owner
from reference.ledger import Ledger
from reference.machine import Machine, how_many
from structlog.testing import capture_logs

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install
from dispatcher.postgres.pool import StatusColumn, check_installed


@dataclass
class Database:
    """One database for all histories, emptied before each."""

    loop: asyncio.AbstractEventLoop
    books: Books
    status: StatusColumn
    workflow: int

    def owner(self) -> TwinOwner:
        """Empty the tables and return who writes into them."""
        tables = "notify.ent_notification, dispatcher.delivery, dispatcher.recipient"
        for table in tables.split(", "):
            self.loop.run_until_complete(self.books.rows(f"delete from {table}"))
        return TwinOwner(Ledger(), self.books, self.status, self.workflow)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    """Open a database in a loop of its own: Hypothesis' tests are not coroutines."""
    loop, exits, name = asyncio.new_event_loop(), AsyncExitStack(), "ledger_model"

    async def opened() -> Database:
        async with await psycopg.AsyncConnection.connect(postgres_server.url(), autocommit=True) as admin:
            await admin.execute(f"create database {name}".encode())
        await create_dev_schema(postgres_server.url(name))
        await install(postgres_server.url(name))
        books = await exits.enter_async_context(open_books(postgres_server.url(name)))
        status = await check_installed(books.pool, "notify.ent_notification")
        return Database(loop, books, status, await books.workflow())

    yield loop.run_until_complete(opened())
    loop.run_until_complete(exits.aclose())
    loop.close()
    with psycopg.Connection.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_history_breaks_a_promise_and_postgres_does_what_the_reference_does(database: Database):
    class OnPostgres(Machine):
        def open_owner(self) -> Owner:
            return database.owner()

        def open_loop(self) -> asyncio.AbstractEventLoop:
            return database.loop

        def close_loop(self) -> None:
            """Keep it for the next history."""

    with capture_logs():
        run_state_machine_as_test(OnPostgres, settings=how_many(60))
