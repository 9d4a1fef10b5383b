"""Fixtures of the end-to-end tests."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.e2e.trigger_api import API, RIGHT, granted
from tests.support.stack import Stack


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a `run` whose role may change rows by hand."""
    await granted(stack)
    process = await stack.running(**API)
    async with await process.http(headers=RIGHT) as http:
        http.timeout = httpx.Timeout(60)
        yield http
