"""A real PgBouncer in front of PostgreSQL. It does not run as root, so root runs it as the servers' user."""

import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg
import pytest

from dispatcher.devstack import processes
from dispatcher.devstack.postgres import unprivileged_user

SESSIONS = 3
"""So few of the server's sessions in transaction mode that everybody shares them."""
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = postgres
pool_mode = {mode}
default_pool_size = {sessions}
"""


@dataclass
class Pooler:
    """A PgBouncer to connect through, to command and to kill."""

    port: int
    process: Popen[bytes]

    def url(self, direct: str) -> str:
        """Return a database's URL through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{direct.rsplit('/', 1)[1]}"

    async def command(self, words: bytes) -> list[tuple[Any, ...]]:
        """Give a command at its console, which knows simple queries only."""
        url = f"postgresql://postgres@127.0.0.1:{self.port}/pgbouncer"
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.AsyncClientCursor
        ) as console:
            cursor = await console.execute(words)
            return await cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def pooling(folder: Path, server: int, mode: str, *, port: int | None = None) -> Generator[Pooler]:
    """Run a pooler of this mode in front of the server's port for the block."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        pytest.fail("PgBouncer is missing: apt-get install pgbouncer", pytrace=False)
    folder.mkdir(mode=0o755, exist_ok=True)
    port = port or processes.free_port()
    users = folder / "users"
    users.write_text('"postgres" ""\n')
    sessions = SESSIONS if mode == "transaction" else 40
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(server=server, port=port, users=users, mode=mode, sessions=sessions))
    user = unprivileged_user(folder)
    with processes.run_server(
        [program, str(configuration)],
        log=folder / "pgbouncer.log",
        ready=lambda: processes.accepts_connections(port),
        user=user,
        stop=signal.SIGINT,
    ) as process:
        yield Pooler(port, process)
