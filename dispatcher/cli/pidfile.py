"""A pid file that is never wrong: the process that it names holds a lock on it until it ends.

We create and lock a temporary file, and the process inherits the open descriptor, and with it the lock. The kernel
releases the lock when the process ends, for whatever reason. The file gets its name only after its pid is written, so a
reader always sees a pid together with its lock: a locked file names a running process, an unlocked file names none.

Any process can lock a file and write a number into it. So a file is believed only if nobody but its user can have made
it: a regular file of this user, in a folder that no other user can write to.
"""

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dispatcher.models.errors import CheckFailed, ConfigurationError

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
MAX_PID_BYTES = 11
"""More text than this holds no pid: the highest possible one has ten digits."""
NO_TRAPS = os.O_NOFOLLOW | os.O_NONBLOCK
LOWEST_PID, HIGHEST_PID = 2, 2**31 - 1
"""0 and negative numbers mean groups of processes to `kill`, and 1 is the system's first process."""


class PidFile:
    """The pid file of one background process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pid(self) -> int | None:
        """Return the pid of the running process, or None.

        Raises ConfigurationError if the file is not a pid file, or if another user can have written it.
        """
        try:
            # Neither flag changes how a regular file is read. A FIFO cannot block, and a link is not followed.
            with open(self.path, "rb", opener=lambda path, flags: os.open(path, flags | NO_TRAPS)) as file:
                self._require_own(file.fileno())
                # A shared lock: two readers at once do not conflict, so neither takes the other for the process.
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                return parse_pid(file.read(MAX_PID_BYTES + 1))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.path} is not a pid file of dispatcher ({type(error).__name__}): remove it"
            ) from None

    def _require_own(self, handle: int) -> None:
        """Raise `ConfigurationError` if another user can have written the open file, or ValueError if it is no file."""
        file, folder = os.fstat(handle), self.path.parent.stat()
        if not stat.S_ISREG(file.st_mode):
            raise ValueError
        if file.st_uid != os.geteuid() or file.st_mode & WRITABLE_BY_OTHERS:
            raise ConfigurationError(
                f"{self.path} is not trusted, because another user owns it or can write it: run this command as the"
                " user who started dispatcher, or remove the file"
            )
        if folder.st_uid not in (os.geteuid(), 0) or folder.st_mode & WRITABLE_BY_OTHERS:
            raise ConfigurationError(
                f"{self.path} is not trusted, because other users can write to its folder: name another path with"
                " --pid-file"
            )

    def require_not_running(self) -> None:
        """Raise `CheckFailed` if the process is running."""
        if (running := self.pid()) is not None:
            raise CheckFailed(f"dispatcher is running already, as process {running}")

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a process in its own session, so that Ctrl-C and the end of the terminal do not reach it.

        Its output is appended to `log`. Raises CheckFailed if one is running, ConfigurationError for an unusable path.
        """
        with self._locked_new_file() as new:
            try:
                # Without O_NONBLOCK the open of a FIFO would wait for a reader.
                output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
                os.set_blocking(output, True)
            except OSError as error:
                raise ConfigurationError(f"{log}: {error.strerror}; name another --log-file") from None
            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=[new.handle],
                )
            finally:
                os.close(output)
            new.publish(process.pid)
        return process

    def exec_as(self, command: list[str], environment: Mapping[str, str]) -> NoReturn:
        """Replace this process by `command`, which keeps the pid and gets the lock. Raises as `spawn` does."""
        with self._locked_new_file() as new:
            new.publish(os.getpid())
            os.execve(command[0], command, environment)  # noqa: S606  (no shell is involved)

    @contextmanager
    def _locked_new_file(self) -> Generator["UnpublishedFile"]:
        """Yield the locked temporary file that the new process has to inherit. CheckFailed if a process is running."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path.parent}: {error.strerror}; name another path with --pid-file"
            ) from None
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
                os.close(handle)  # the descriptor that the process inherited keeps the lock
        finally:
            os.close(folder)


@dataclass(frozen=True)
class UnpublishedFile:
    """A pid file that does not have its name yet. `handle`: the descriptor that holds the lock."""

    handle: int
    temporary: Path
    path: Path

    def publish(self, pid: int) -> None:
        """Write the pid of the process that has the descriptor, then give the file its name."""
        os.write(self.handle, f"{pid}\n".encode())
        self.temporary.rename(self.path)


def parse_pid(text: bytes) -> int:
    """Return the pid that a pid file holds. Raises ValueError if it names no process of its own."""
    if len(text) > MAX_PID_BYTES:
        raise ValueError
    pid = int(text)
    if not LOWEST_PID <= pid <= HIGHEST_PID:
        raise ValueError
    return pid
