"""A fresh database per test, cloned from a template that has XNovu's schema."""

import itertools
from collections.abc import Iterator
from typing import Any

import anyio
import psycopg
import pytest
from live_database import Database

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install

counter = itertools.count()


@pytest.fixture(scope="session")
def admin(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer, admin: psycopg.Connection[Any]) -> str:
    admin.execute("create database install_template")
    anyio.run(create_dev_schema, postgres_server.url("install_template"))
    return "install_template"


@pytest.fixture
def empty_database(postgres_server: PostgresServer, admin: psycopg.Connection[Any]) -> Database:
    name = f"install_{next(counter)}"
    admin.execute(f"create database {name}".encode())
    return Database(postgres_server.url(name))


@pytest.fixture
def database(postgres_server: PostgresServer, admin: psycopg.Connection[Any], template: str) -> Database:
    name = f"install_{next(counter)}"
    admin.execute(f"create database {name} template {template}".encode())
    return Database(postgres_server.url(name))


@pytest.fixture
async def installed(database: Database) -> Database:
    await install(database.url)
    return database
