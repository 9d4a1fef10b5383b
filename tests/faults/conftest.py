"""Proxies in front of each server, and a server of the test's own."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatcher.devstack import postgres
from dispatcher.devstack.postgres import PostgresServer
from tests.faults.own_server import OwnServer, copy_of
from tests.support.databases import make_stack_template
from tests.support.proxy import FaultProxy, proxied
from tests.support.stack import RUN_ROLE, Stack

counter = itertools.count()


@pytest.fixture
async def to_postgres(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
async def to_temporal(stack: Stack) -> AsyncIterator[FaultProxy]:
    host, port = stack.temporal_address.split(":")
    async with proxied(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
async def to_novu(stack: Stack) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", stack.novu_port) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(url: str, to_postgres: FaultProxy) -> str:
    """The stack's database, through the proxy."""
    return urlsplit(url)._replace(netloc=f"{RUN_ROLE}@127.0.0.1:{to_postgres.port}").geturl()


@pytest.fixture(scope="session")
async def cluster(stack_folder: Path) -> Path:
    """A stopped cluster whose database `app` has XNovu's tables and ours."""
    folder = stack_folder / "cluster"
    with postgres.run_postgres(folder, settings={"fsync": "off"}) as server:
        await make_stack_template(server, "app")
    return folder


@pytest.fixture
def own(cluster: Path, stack_folder: Path) -> Iterator[OwnServer]:
    """A server of the test's own, running."""
    with copy_of(cluster, stack_folder / f"own-{next(counter)}") as server:
        server.start()
        yield server
