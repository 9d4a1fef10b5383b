"""One fake Novu process for the session, reset for each test, and the real novu-py client pointed at it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from novu_py import Novu
from novu_py.utils import BackoffStrategy, RetryConfig

from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.devstack.fake_novu.settings import Config


@pytest.fixture(scope="session")
async def shared_fake_novu() -> AsyncIterator[FakeNovu]:
    async with run_fake_novu() as fake_novu:
        yield fake_novu


@pytest.fixture
async def fake_novu(shared_fake_novu: FakeNovu) -> FakeNovu:
    await shared_fake_novu.reset()
    await shared_fake_novu.configure(**Config().as_json())
    return shared_fake_novu


@pytest.fixture
async def api(fake_novu: FakeNovu) -> AsyncIterator[httpx.AsyncClient]:
    """The bare wire, authorized."""
    headers = {"Authorization": f"ApiKey {fake_novu.api_key}"}
    async with httpx.AsyncClient(base_url=fake_novu.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
async def novu(fake_novu: FakeNovu) -> AsyncIterator[Novu]:
    """novu-py without retries, as our client uses it."""
    once = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), retry_connection_errors=False)
    with httpx.Client(trust_env=False) as unused:
        async with httpx.AsyncClient(trust_env=False) as client:
            yield Novu(
                secret_key=fake_novu.api_key,
                server_url=fake_novu.url,
                client=unused,
                async_client=client,
                retry_config=once,
            )
