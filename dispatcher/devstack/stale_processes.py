"""The lock of a data folder, and the processes that a killed `dispatcher dev` left running in it.

A process is ended only if its pid is recorded in the folder and its command line names the folder. The operating system
reuses pids, so a pid alone proves nothing.
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
from typing import cast

from dispatcher.models.errors import ConfigurationError

LOCK_FILE = "lock"
PIDS_FILE = "children.json"
EXIT_TIMEOUT_SECONDS = 10


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Lock the folder for the block; ConfigurationError if another process has it. The lock ends with the process."""
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigurationError(
                f"{folder} is in use by another dispatcher dev (pid {file.read().strip() or 'unknown'}): "
                "stop it, or set --data to another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def record_pids(folder: Path, **children: int) -> None:
    """Record the pids of children, in addition to those recorded before."""
    (folder / PIDS_FILE).write_text(json.dumps(recorded_pids(folder) | children), encoding="utf-8")


def recorded_pids(folder: Path) -> dict[str, int]:
    """Return the pids recorded in the folder, by name; empty if the file is missing or was cut by a crash."""
    try:
        pids: object = json.loads((folder / PIDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(pids, dict):
        return {}
    return {str(name): pid for name, pid in cast("dict[object, object]", pids).items() if isinstance(pid, int)}


def end_stale(folder: Path, say: Callable[[str], None]) -> None:
    """End the recorded processes that still run. The caller holds the folder's lock, so they have no owner."""
    for name, pid in reversed(recorded_pids(folder).items()):  # in reverse order of their start
        end_process(name, pid, folder, signal.SIGTERM, say)
    (folder / PIDS_FILE).unlink(missing_ok=True)
    pid_file = folder / "postgres" / "data" / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError):
        end_process("postgres", int(pid_file.read_text(encoding="utf-8").split("\n")[0]), folder, signal.SIGINT, say)
        # PostgreSQL would refuse to start if another process of the same user now has the pid in that file.
        pid_file.unlink(missing_ok=True)


def end_process(name: str, pid: int, folder: Path, stop: signal.Signals, say: Callable[[str], None]) -> None:
    """Send `stop` to `pid` if it is a process of this folder; ConfigurationError if it does not end."""
    if not belongs_to(pid, folder):
        return
    say(f"ending {name} (pid {pid}), left over in {folder}")
    with suppress(ProcessLookupError):
        os.kill(pid, stop)
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    while belongs_to(pid, folder):
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"{name} (pid {pid}), left over in {folder}, does not end: end it, then start again"
            )
        time.sleep(0.02)


def belongs_to(pid: int, folder: Path) -> bool:
    """Return whether the process was started with this folder on its command line."""
    return f"{folder}{os.sep}" in command_line(pid)


def command_line(pid: int) -> str:
    """Return the command line of a process; empty if there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def has_exited(pid: int) -> bool:
    """Return whether a child process has ended. Its exit status stays available to its owner."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
