"""A child server: starts it, waits until a condition shows that it is ready, ends it by its own pid.

Its output goes to a log file. If it ends before it is ready, the error contains the end of that file.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from dispatcher.models.errors import DispatcherError

STOP_SECONDS = 10


class NotStarted(DispatcherError):
    """A server of the local stack did not start."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts_connections(port: int) -> bool:
    """Return whether something accepts connections on 127.0.0.1:`port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def run_server(
    args: list[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    user: int | None = None,
    stop: signal.Signals = signal.SIGTERM,
    timeout: float = 30,
) -> Generator[subprocess.Popen[bytes]]:
    """Run `args` until the block ends. It gets its own session, so that Ctrl-C in the terminal reaches only us.

    `ready` is polled for up to `timeout` seconds; NotStarted if it does not become true.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
            cwd="/",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    try:
        wait_until(ready, process, log, timeout)
        yield process
    finally:
        end_process(process, stop)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
    """Return when `ready()` is true; NotStarted if the process ends first or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise NotStarted(f"{process.args} did not start; the end of {log}:\n{tail}")  # pyright: ignore[reportUnknownMemberType]
        time.sleep(0.02)


def end_process(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    """Send `stop` to the process, and SIGKILL if it has not ended after `STOP_SECONDS`."""
    if process.poll() is not None:
        return
    process.send_signal(stop)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
