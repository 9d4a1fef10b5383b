"""The variables that connect a program to the local stack: as lines, as a file, as the environment of a child.

An existing file is replaced only if we wrote it, which its first line shows.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dispatcher.models.errors import ConfigurationError

FIRST_LINE = "# Written by `dispatcher dev`, which replaces this file whenever it starts."
# The variables of this machine that a child needs. It gets no other variable of the caller: settings of the caller may
# lead to databases and servers outside the local stack.
INHERITED_VARIABLES = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
LOG_DEFAULTS = {"DISPATCHER_LOG_FORMAT": "console", "DISPATCHER_LOG_LEVEL": "info"}


def lines(variables: Mapping[str, str]) -> list[str]:
    """Return NAME=value lines. No value here needs quotes in a shell."""
    return [f"{name}={value}" for name, value in variables.items()]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that connects to the local stack only."""
    kept = {name: os.environ[name] for name in (*INHERITED_VARIABLES, *LOG_DEFAULTS) if name in os.environ}
    # An empty file replaces the user's Temporal profile, which may contain a server, a key or TLS settings.
    return {**LOG_DEFAULTS, **kept, "TEMPORAL_CONFIG_FILE": os.devnull, **variables}


def refuse_foreign(path: Path) -> None:
    """Raise ConfigurationError unless `path` can be written and is missing or was written by us."""
    if path.parent.is_dir() and not path.exists():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().rstrip("\n") == FIRST_LINE
    except OSError as error:
        raise ConfigurationError(f"--env-file {path} cannot be written: {error.strerror}") from None
    if not ours:
        raise ConfigurationError(
            f"--env-file {path} was not written by dispatcher dev: give another path or remove the file"
        )


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Write the variables, readable for our user only. A reader sees the old or the new file, never a part of it."""
    refuse_foreign(path)
    descriptor, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor, not a path)
        file.write("\n".join([FIRST_LINE, *lines(variables)]) + "\n")
    Path(part).replace(path)
