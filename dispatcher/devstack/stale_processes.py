"""Who works in a data folder, and what a killed `dispatcher dev` left behind in it.

A process is ended only when its pid is noted in the folder and its command line names the folder: pids are given
again, so a pid alone proves nothing.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from dispatcher.models.errors import ConfigurationError

LOCK_FILE = "lock"
PIDS_FILE = "children.json"
EXIT_TIMEOUT_SECONDS = 10


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Hold the folder for the block; ConfigurationError when another process does. The lock ends with its process."""
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigurationError(
                f"{folder} is in use by another dispatcher dev (pid {file.read().strip() or 'unknown'}): "
                "stop that one, or name another folder with --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def record_pids(folder: Path, **children: int) -> None:
    """Note the pids of children, beside those noted before."""
    (folder / PIDS_FILE).write_text(json.dumps(recorded_pids(folder) | children), encoding="utf-8")


def recorded_pids(folder: Path) -> dict[str, int]:
    """Return the pids noted in the folder; a file cut short by a crash holds none."""
    try:
        return json.loads((folder / PIDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def end_stale(folder: Path, say: Callable[[str], None]) -> None:
    """End what runs here without an owner. The folder must be held, so whatever runs has none."""
    for name, pid in reversed(recorded_pids(folder).items()):  # last started, first ended
        end_process(name, pid, folder, signal.SIGTERM, say)
    (folder / PIDS_FILE).unlink(missing_ok=True)
    pid_file = folder / "postgres" / "data" / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError):
        end_process("postgres", int(pid_file.read_text(encoding="utf-8").split("\n")[0]), folder, signal.SIGINT, say)
        # PostgreSQL would take the note for a live server's whenever its pid now belongs to anybody of the same user.
        pid_file.unlink(missing_ok=True)


def end_process(name: str, pid: int, folder: Path, stop: signal.Signals, say: Callable[[str], None]) -> None:
    """End `pid` if it is a process of this folder; ConfigurationError when it does not go."""
    if not belongs_to(pid, folder):
        return
    say(f"ending {name} (pid {pid}), left over in {folder}")
    with suppress(ProcessLookupError):
        os.kill(pid, stop)
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    while belongs_to(pid, folder):
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"{name} (pid {pid}) is left over in {folder} and does not end: end it, then start again"
            )
        time.sleep(0.02)


def belongs_to(pid: int, folder: Path) -> bool:
    """Return whether the process was started on this very folder."""
    return f"{folder}{os.sep}" in command_line(pid)


def command_line(pid: int) -> str:
    """Return how a process was started; empty when there is none."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def has_exited(pid: int) -> bool:
    """Return whether a child has ended; it is left to its owner to reap."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
