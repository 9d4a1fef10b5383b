"""The outbox module on a real PostgreSQL: a database per test, with XNovu's tables and ours."""

import itertools
from collections.abc import AsyncIterator

import psycopg
import pytest
from ledger_books import Books, open_books

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install

counter = itertools.count()


@pytest.fixture(scope="session")
async def ledger_template(postgres_server: PostgresServer) -> str:
    async with await psycopg.AsyncConnection.connect(postgres_server.url(), autocommit=True) as admin:
        await admin.execute("create database ledger_template")
    await create_dev_schema(postgres_server.url("ledger_template"))
    await install(postgres_server.url("ledger_template"))
    return "ledger_template"


@pytest.fixture
async def books(postgres_server: PostgresServer, ledger_template: str) -> AsyncIterator[Books]:
    name = f"ledger_{next(counter)}"
    async with await psycopg.AsyncConnection.connect(postgres_server.url(), autocommit=True) as admin:
        await admin.execute(f"create database {name} template {ledger_template}".encode())
        async with open_books(postgres_server.url(name)) as books:
            yield books
        await admin.execute(f"drop database {name} with (force)".encode())
