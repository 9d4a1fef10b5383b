"""A house per test; after the test, when all is quiet, the invariants are checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import House, open_house
from invariants import broken, load_oracle
from rooms import cloned, make_template

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.devstack.standin.process import Standin, running
from dispatcher.devstack.temporal import TemporalServer


@pytest.fixture(scope="session")
async def template(postgres_server: PostgresServer) -> str:
    """A database with XNovu's tables and ours, to clone for each test."""
    return await make_template(postgres_server)


@pytest.fixture
async def url(postgres_server: PostgresServer, template: str) -> AsyncIterator[str]:
    async with cloned(postgres_server, template) as url:
        yield url


@pytest.fixture
async def novu() -> AsyncIterator[Standin]:
    async with running() as standin:
        yield standin


@pytest.fixture
async def house(url: str, temporal_server: TemporalServer, novu: Standin, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(url, temporal_server.address, novu, tmp_path) as house:
        yield house
        await house.quiet()
        await load_oracle(house.connection, house.novu)
        assert await broken(house.connection) == {}
