"""Waiting for a fact, instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

Fact = Callable[[], Awaitable[Any] | Any]
POLL_SECONDS = 0.02


async def last_value(fact: Fact, within: float, every: float = POLL_SECONDS) -> Any:
    """Return the value of `fact()` as soon as it is true, or its last value after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = fact()
        if inspect.isawaitable(value):
            value = await value
        if value or time.monotonic() >= deadline:
            return value
        await asyncio.sleep(every)


async def eventually(fact: Fact, what: str, within: float = 30) -> Any:
    """Wait until `fact()` is true and return its value; fail after `within` seconds with `what` in the message."""
    value = await last_value(fact, within)
    assert value, f"not within {within} s: {what}"
    return value


def eventually_blocking(fact: Fact, what: str, within: float = 30) -> Any:
    """Do the same in a test that is not a coroutine."""
    return asyncio.run(eventually(fact, what, within))
