"""A fresh database per test, cloned from a template that has XNovu's schema."""

import itertools

import anyio
import pytest

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install
from tests.install.live_database import Database
from tests.support.databases import create_database

counter = itertools.count()


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> str:
    url = anyio.run(create_database, postgres_server, "install_template")
    anyio.run(create_dev_schema, url)
    return "install_template"


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Database:
    return Database(anyio.run(create_database, postgres_server, f"install_{next(counter)}"))


@pytest.fixture
def database(postgres_server: PostgresServer, template: str) -> Database:
    return Database(anyio.run(create_database, postgres_server, f"install_{next(counter)}", template))


@pytest.fixture
async def installed(database: Database) -> Database:
    await install(database.url)
    return database
