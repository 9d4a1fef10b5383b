"""The event loop of the long-running processes: uvloop's where the package is installed, else Python's own."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

import anyio


def installed_loop() -> str:
    """Return the name of the loop that `run_in_loop` uses."""
    return "uvloop" if find_spec("uvloop") else "asyncio"


def running_loop() -> str:
    """Return the name of the loop that runs us."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def run_in_loop(main: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run `main` to its end."""
    anyio.run(main, *arguments, backend_options={"use_uvloop": installed_loop() == "uvloop"})
