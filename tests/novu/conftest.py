"""The gateway, pointed at a stand-in of Novu that runs as its own process."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.devstack.fake_novu.settings import Config
from dispatcher.novu.client import NovuClient


@pytest.fixture(scope="session")
async def gateway_standin() -> AsyncIterator[FakeNovu]:
    async with run_fake_novu() as standin:
        yield standin


@pytest.fixture
async def novu(gateway_standin: FakeNovu) -> FakeNovu:
    """The stand-in, as good as new."""
    await gateway_standin.reset()
    await gateway_standin.configure(**Config().as_json())
    return gateway_standin


@pytest.fixture
async def gateway(novu: FakeNovu) -> AsyncIterator[NovuClient]:
    gateway = NovuClient(novu.api_key, novu.url)
    yield gateway
    await gateway.aclose()
