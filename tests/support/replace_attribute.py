"""Replaces a function or a value of the package while a test's process runs."""

from typing import Any


def replace_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute that exists; raise AttributeError if it does not, so that a rename cannot switch a fault off."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner!r} has no attribute {name}")
    setattr(owner, name, value)
