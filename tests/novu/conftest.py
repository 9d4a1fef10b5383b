"""The gateway, pointed at a stand-in of Novu that runs as its own process."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.devstack.fake_novu.process import Standin, running
from dispatcher.devstack.fake_novu.settings import Config
from dispatcher.novu.client import NovuGateway


@pytest.fixture(scope="session")
async def gateway_standin() -> AsyncIterator[Standin]:
    async with running() as standin:
        yield standin


@pytest.fixture
async def novu(gateway_standin: Standin) -> Standin:
    """The stand-in, as good as new."""
    await gateway_standin.reset()
    await gateway_standin.configure(**Config().as_json())
    return gateway_standin


@pytest.fixture
async def gateway(novu: Standin) -> AsyncIterator[NovuGateway]:
    gateway = NovuGateway(novu.api_key, novu.url)
    yield gateway
    await gateway.aclose()
