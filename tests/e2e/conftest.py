"""A house per test; after the test, when all is quiet, the invariants are checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import House, eventually, open_house
from invariants import broken, load_oracle
from rooms import cloned, make_template
from temporalio.client import Client

from dispatcher.devstack.fake_novu.process import Standin, running
from dispatcher.devstack.postgres import PostgresServer
from dispatcher.devstack.temporal import TemporalServer
from dispatcher.models.workflow_contract import lane_of


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
        await none_open(house)
        await nothing_to_take_back(house)
        await load_oracle(house.connection, house.novu)
        assert await broken(house.connection) == {}


async def nothing_to_take_back(house: House) -> None:
    """Wait until what the retractions of a test ask for is done; where no dispatcher is left, nobody would do it."""

    async def none() -> bool:
        return not await house.rows(
            "select from dispatcher.recipient where cancel_at is not null union all"
            " select from notify.ent_notification"
            " where notification_status = 'RETRACTED' and error_details -> 'retraction' is null"
        )

    if any(process.popen.poll() is None for process in house.processes):
        await eventually(none, f"every retraction done; {house.last_words()}", 30)


async def none_open(house: House) -> None:
    """Wait until no workflow of the house is open; where no dispatcher is left, nobody could end them."""
    living = [process for process in house.processes if process.popen.poll() is None]
    if not living:
        return
    client = await Client.connect(house.temporal_address)
    query = f"ExecutionStatus = 'Running' and TaskQueue in ('{house.queue}', '{lane_of(house.queue)}')"

    async def none() -> bool:
        return (await client.count_workflows(query)).count == 0

    try:
        await eventually(none, "no open workflow", 5)
    except AssertionError:
        # The ways of the test's own dispatchers, proxies perhaps, are gone already: one without a detour finishes.
        for process in living:
            process.kill()
        await house.running()
        await eventually(none, f"no open workflow; {house.last_words()}", 120)
