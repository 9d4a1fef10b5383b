"""The client, pointed at a fake Novu that runs as its own process."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.devstack.fake_novu.settings import Config
from dispatcher.novu.client import NovuClient


@pytest.fixture(scope="session")
async def shared_novu() -> AsyncIterator[FakeNovu]:
    async with run_fake_novu() as fake_novu:
        yield fake_novu


@pytest.fixture
async def novu(shared_novu: FakeNovu) -> FakeNovu:
    """The fake Novu, reset."""
    await shared_novu.reset()
    await shared_novu.configure(**Config().as_json())
    return shared_novu


@pytest.fixture
async def client(novu: FakeNovu) -> AsyncIterator[NovuClient]:
    client = NovuClient(novu.api_key, novu.url)
    yield client
    await client.aclose()
