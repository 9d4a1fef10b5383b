"""Proxies in front of each server; the house and its closing invariants come from the folder above."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from house import RUN_ROLE, House
from proxy import FaultProxy, proxied

from dispatcher.devstack.postgres import PostgresServer


@pytest.fixture
async def to_postgres(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
async def to_temporal(house: House) -> AsyncIterator[FaultProxy]:
    host, port = house.temporal_address.split(":")
    async with proxied(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
async def to_novu(house: House) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", house.novu_port) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(url: str, to_postgres: FaultProxy) -> str:
    """The house's database, through the proxy."""
    return urlsplit(url)._replace(netloc=f"{RUN_ROLE}@127.0.0.1:{to_postgres.port}").geturl()
