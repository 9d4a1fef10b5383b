"""A server of the test's own on a free port."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.web.server import bind, serving
from tests.web.raw_http import app


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listening = bind("127.0.0.1", 0)
    number = listening.getsockname()[1]
    async with serving(listening, app()):
        yield number
