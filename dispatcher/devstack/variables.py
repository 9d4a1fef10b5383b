"""The variables that connect a program to the local stack: as lines, as a file, as a child's environment.

A file is only ever replaced when we wrote it: its first line says so.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dispatcher.models.errors import ConfigurationError

FIRST_LINE = "# Written by `dispatcher dev`, which replaces this file whenever it starts."
# What a program needs of the machine. Everything else stays behind: a caller's settings, above all connections to
# databases and servers that are not ours, must not reach a dispatcher of the local stack.
INHERITED_VARIABLES = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
LOG_DEFAULTS = {"DISPATCHER_LOG_FORMAT": "console", "DISPATCHER_LOG_LEVEL": "info"}


def lines(variables: Mapping[str, str]) -> list[str]:
    """Return NAME=value lines; no value here needs quotes in a shell."""
    return [f"{name}={value}" for name, value in variables.items()]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that sees the local stack and nothing else."""
    kept = {name: os.environ[name] for name in (*INHERITED_VARIABLES, *LOG_DEFAULTS) if name in os.environ}
    # An empty file instead of the user's profile of Temporal, which may name a server, a key or TLS.
    return {**LOG_DEFAULTS, **kept, "TEMPORAL_CONFIG_FILE": os.devnull, **variables}


def refuse_foreign(path: Path) -> None:
    """Raise ConfigurationError unless `path` can be written and is ours or not there."""
    if path.parent.is_dir() and not path.exists():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().rstrip("\n") == FIRST_LINE
    except OSError as error:
        raise ConfigurationError(f"--env-file {path} cannot be written: {error.strerror}") from None
    if not ours:
        raise ConfigurationError(f"--env-file {path} was not written by dispatcher dev: name another file or remove it")


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Write the variables for our user only; a reader sees the old file or the new one, never half of it."""
    refuse_foreign(path)
    descriptor, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor, not a path)
        file.write("\n".join([FIRST_LINE, *lines(variables)]) + "\n")
    Path(part).replace(path)
