"""Doubles of `OutboxStore` whose methods follow the store's own signatures.

A new public method of the store reaches every double of this folder without an edit. A double defines only the methods
in which it differs.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from dispatcher.postgres.outbox import OutboxStore

AsyncMethod = Callable[..., Awaitable[Any]]

SIGNATURES = {
    name: inspect.signature(method)
    for name, method in inspect.getmembers(OutboxStore, inspect.iscoroutinefunction)
    if not name.startswith("_")
}
"""Each public method of the store, with `self` as its first parameter."""


def require_store_method(name: str) -> None:
    """Raise AttributeError unless the store has this method."""
    if name not in SIGNATURES:
        raise AttributeError(f"OutboxStore has no public method {name}")


def answered_by(name: str, function: Callable[..., Any], **more: Any) -> AsyncMethod:
    """Return the store's method `name`, answered by `function`.

    The function gets, by name, those arguments of the call and of `more` for which it has a parameter.
    """
    wanted = inspect.signature(function).parameters

    async def method(*args: Any, **kwargs: Any) -> Any:
        given = SIGNATURES[name].bind(None, *args, **kwargs).arguments | more
        return function(**{parameter: value for parameter, value in given.items() if parameter in wanted})

    return method
