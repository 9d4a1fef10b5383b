"""A PostgreSQL of the test's own, to stop, kill, move and fill up: a copy of a cluster that was prepared once."""

import os
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from dispatcher.devstack import postgres, processes
from tests.support.stack import Stack

SETTINGS = {"fsync": "off", "max_connections": "60", "wal_level": "replica", "max_wal_senders": "4"}


class OwnServer:
    """One cluster in one folder; where it listens stays the same from start to start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self.settings = dict(SETTINGS)
        self.user = postgres.unprivileged_user(folder)
        self.binaries = postgres.reachable_binaries(self.user)
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str = "postgres") -> str:
        """Return the URL of the outbox's database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/app"

    def read_log(self) -> str:
        """Return the server's log."""
        return (self.folder / "postgres.log").read_text(errors="replace")

    def run(self, program: str, *args: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        subprocess.run(
            [self.binaries / program, *args],
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd="/",
            check=True,
            capture_output=True,
        )

    def start(self, within: float = 30) -> None:
        """Start it; what a killed one left behind may need a moment to go."""
        settings = self.settings | {"port": str(self.port), "listen_addresses": "127.0.0.1"}
        settings |= {"unix_socket_directories": ""}
        args = [str(self.binaries / "postgres"), "-D", str(self.folder / "data")]
        args += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8", **self.environment},
            )
        processes.wait_until(
            lambda: postgres.accepts_sessions(self.url()), self._process, self.folder / "postgres.log", within
        )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: fast (SIGINT), at once (SIGQUIT), or without a word (SIGKILL); return when every backend is gone."""
        if self._process is None:
            return
        family = [self._process.pid, *children(self._process.pid)]
        self._process.send_signal(how)
        self._process.wait(20)
        self._process = None
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            assert time.monotonic() < deadline, "a backend outlived its server"
            time.sleep(0.01)

    @property
    def runs(self) -> bool:
        """Whether the server's first process runs."""
        return self._process is not None and self._process.poll() is None


def children(pid: int) -> list[int]:
    """Return the process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def reconnect(stack: Stack, url: str) -> None:
    """Point the stack at another or a restarted server: its connection ended with the old one."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    stack.exits.push_async_callback(connection.close)
    stack.connection = connection
    stack.url = url


@contextmanager
def copy_of(cluster: Path, folder: Path) -> Generator[OwnServer]:
    """Hand out a server with a copy of the prepared cluster; it is started by the test."""
    folder.mkdir(mode=0o755)
    subprocess.run(["cp", "-a", str(cluster / "data"), str(folder / "data")], check=True)
    server = OwnServer(folder)
    try:
        yield server
    finally:
        server.stop(signal.SIGQUIT)
