"""The files of the platforms: their commands, parsed as our command line parses them."""

import shlex
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from dispatcher.cli import app
from tests.support.repository import text

HEALTH_PATHS = {"/livez", "/readyz", "/startupz", "/health"}
"""The paths that need no token."""


def documents(path: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file; merges and anchors are resolved."""
    return [each for each in yaml.safe_load_all(text(path)) if each is not None]


def known(command: str | list[str]) -> bool:
    """Return whether our command line accepts this; a refused command raises with the error of the command line."""
    program, *words = shlex.split(command) if isinstance(command, str) else command
    assert Path(program).name == "dispatcher", command
    at: Any = get_command(app)
    while hasattr(at, "commands"):
        name = words.pop(0)
        assert name in at.commands, f"{command}: there is no {name}"
        at = at.commands[name]
    at.make_context(at.name, words)
    return True


def procfile() -> dict[str, str]:
    """Return the Procfile: process types and their commands."""
    lines = [line.split(":", 1) for line in text("Procfile").splitlines() if line.strip()]
    return {name.strip(): command.strip() for name, command in lines}
