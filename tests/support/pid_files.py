"""A pid file whose process is this one."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from dispatcher.cli.pidfile import PidFile


@contextmanager
def locked_file(path: Path, text: str = "4711\n") -> Generator[PidFile]:
    """Write the file and hold its lock, as a running process would."""
    path.write_text(text)
    path.chmod(0o600)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        yield PidFile(path)
