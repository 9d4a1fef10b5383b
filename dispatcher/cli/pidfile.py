"""A pid file that can be trusted: the process it names holds a lock on it for as long as it lives.

The lock is taken on a new file before the process starts, handed down to it as an open descriptor, and let go by the
kernel when it ends, however it ends. Only then the file gets its name, so whoever reads it sees a pid and a lock that
belong together: a locked file names a living process, and a number that was left behind names nobody.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dispatcher.models.errors import CheckFailed, ConfigurationError


class PidFile:
    """Where the pid of one background process stands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pid(self) -> int | None:
        """Return the pid of the process that runs, or None."""
        try:
            with self.path.open(encoding="ascii") as file:
                # Shared, so that two who look at the same time do not take each other for the process.
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                return int(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.path} is no pid file of ours ({type(error).__name__}): remove it"
            ) from None

    def require_not_running(self) -> None:
        """Raise `CheckFailed` when it runs."""
        if (running := self.pid()) is not None:
            raise CheckFailed(f"it runs already, as process {running}")

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own, so that neither Ctrl-C nor the end of the terminal reaches it."""
        with self._starting() as new:
            try:
                words = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except OSError as error:
                raise ConfigurationError(f"{log}: {error.strerror}; name another --log-file") from None
            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    start_new_session=True,
                    pass_fds=[new.handle],
                )
            finally:
                os.close(words)
            new.publish(process.pid)
        return process

    def exec_as(self, command: list[str], environment: Mapping[str, str]) -> NoReturn:
        """Go on as `command`, under the pid and with the lock this process has."""
        with self._starting() as new:
            new.publish(os.getpid())
            os.execve(command[0], command, environment)  # noqa: S606  (there is no shell to start)

    @contextmanager
    def _starting(self) -> Generator["UnpublishedFile"]:
        """Yield the file that the new process has to inherit, locked. CheckFailed when one runs already."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise ConfigurationError(f"{self.path.parent}: {error.strerror}; name another place: --pid-file") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.require_not_running()
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            new = UnpublishedFile(handle, Path(name), self.path)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                os.set_inheritable(handle, True)
                yield new
            finally:
                new.temporary.unlink(missing_ok=True)
                os.close(handle)  # the one that was inherited keeps the lock
        finally:
            os.close(folder)


@dataclass(frozen=True)
class UnpublishedFile:
    """A pid file that has not got its name yet. `handle`: the descriptor that carries the lock."""

    handle: int
    temporary: Path
    path: Path

    def publish(self, pid: int) -> None:
        """Write down who inherited the descriptor, and let everybody see it."""
        os.write(self.handle, f"{pid}\n".encode())
        self.temporary.rename(self.path)
