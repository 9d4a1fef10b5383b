"""A house per test; after the test, when all is quiet, the invariants are checked."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from house import House, eventually, open_house
from invariants import PREPARE, broken, load_oracle

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.devstack.standin.process import Standin, running
from dispatcher.devstack.temporal import TemporalServer
from dispatcher.install import create_dev_schema, install

counter = itertools.count()


@pytest.fixture(scope="session")
async def template(postgres_server: PostgresServer) -> str:
    """A database with XNovu's tables and ours, to clone for each test."""
    async with await psycopg.AsyncConnection.connect(postgres_server.url(), autocommit=True) as admin:
        await admin.execute("create database e2e_template")
    url = postgres_server.url("e2e_template")
    await create_dev_schema(url)
    await install(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(PREPARE)
    return "e2e_template"


@pytest.fixture
async def url(postgres_server: PostgresServer, template: str) -> AsyncIterator[str]:
    name = f"e2e_{next(counter)}"
    async with await psycopg.AsyncConnection.connect(postgres_server.url(), autocommit=True) as admin:
        await admin.execute(f"create database {name} template {template}".encode())
        # A clone is another installation: what it sends must not be taken for the template's.
        async with await psycopg.AsyncConnection.connect(postgres_server.url(name), autocommit=True) as connection:
            await connection.execute("update dispatcher.installation set id = gen_random_uuid()")
        yield postgres_server.url(name)
        await admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
async def novu() -> AsyncIterator[Standin]:
    async with running() as standin:
        yield standin


@pytest.fixture
async def house(url: str, temporal_server: TemporalServer, novu: Standin, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(url, temporal_server.address, novu, tmp_path) as house:
        yield house
        await quiet(house)
        await load_oracle(house.connection, house.novu)
        assert await broken(house.connection) == {}


async def quiet(house: House) -> None:
    """Wait until every due row is final and nobody holds one."""

    async def idle() -> bool:
        return not await house.rows(
            "select from notify.ent_notification where publish_status = 'PUBLISH' and not deactivated"
            " and notification_status in ('PENDING', 'PROCESSING')"
            " and (scheduled_for is null or scheduled_for <= clock_timestamp())"
            " union all select from dispatcher.delivery where lease_until is not null"
        )

    await eventually(idle, f"a quiet house; {await house.counts()} {house.last_words()}", 90)
