"""The whole local stack in one block: PostgreSQL with the outbox and our SQL, Temporal, the Novu stand-in.

`dispatching` adds the dispatcher itself, as the child process a platform would run. Whatever ends the block, an error
or a signal included, the children are ended by their own pids, last started first.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import psycopg

from dispatcher import install
from dispatcher.devstack import postgres, processes, stale_processes, temporal, variables
from dispatcher.devstack.fake_novu import process as standin
from dispatcher.install.options import Say, say_nothing

HAS_LISTENER = (
    "select exists (select from pg_stat_activity where query like 'listen \"dispatcher_canary_%' and state = 'idle')"
)


@dataclass(frozen=True)
class Ports:
    """Where to listen; None takes a free port, and for `ui` no page at all."""

    postgres: int | None = None
    temporal: int | None = None
    ui: int | None = None
    novu: int | None = None


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    folder: Path
    postgres: postgres.PostgresServer
    temporal: temporal.TemporalServer
    novu: standin.FakeNovu

    @property
    def variables(self) -> dict[str, str]:
        """What a dispatcher needs to know."""
        return {
            "DATABASE_URL": self.postgres.url(),
            "TEMPORAL_ADDRESS": self.temporal.address,
            "NOVU_API_URL": self.novu.url,
            "NOVU_SECRET_KEY": self.novu.api_key,
        }

    @property
    def pids(self) -> dict[str, int]:
        """The servers by name."""
        return {"postgres": self.postgres.pid, "temporal": self.temporal.pid, "novu": self.novu.pid}

    @property
    def log(self) -> Path:
        """Where a dispatcher of this stack writes."""
        return self.folder / "dispatcher.log"


@asynccontextmanager
async def run_stack(
    folder: Path,
    *,
    ports: Ports = Ports(),
    keep: bool = False,
    settings: dict[str, str] | None = None,
    say: Say = say_nothing,
) -> AsyncGenerator[Stack]:
    """Bring everything up in `folder` for the block; with `keep` Temporal's state stays there too."""
    say("starting PostgreSQL")
    with postgres.run_postgres(folder / "postgres", port=ports.postgres, settings=settings) as database:
        say("starting Temporal")
        with temporal.run_temporal(folder / "temporal", port=ports.temporal, ui_port=ports.ui, keep=keep) as server:
            stale_processes.record_pids(folder, temporal=server.pid)
            say("starting the Novu stand-in")
            async with standin.run_fake_novu(port=ports.novu) as novu:
                await prepare(database.url(), say)
                yield Stack(folder, database, server, novu)


async def prepare(url: str, say: Say) -> None:
    """Create the outbox where there is none, and install."""
    if await install.create_dev_schema(url):
        say("created the outbox, notify.ent_notification, with XNovu's seed rows")
    report = await install.install(url)
    for each in (*report.warnings, *report.remaining):
        say(f"warning: {each}")


@contextmanager
def run_dispatcher(local: Stack) -> Generator[subprocess.Popen[bytes]]:
    """Run `dispatcher run` for the block, from the moment it hears the triggers."""
    # The file tells the child nothing its environment does not; it puts our folder on its command line, by which it is
    # recognised should it outlive us.
    env_file = local.folder / "dispatcher.env"
    variables.write(env_file, local.variables)
    with local.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "run", "--env-file", str(env_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Any port for health: another dispatcher on this machine may have the usual one.
            env={**variables.environment(local.variables), "DISPATCHER_HTTP_PORT": "0"},
            start_new_session=True,
        )
    try:
        stale_processes.record_pids(local.folder, dispatcher=process.pid)
        with psycopg.connect(local.postgres.url(), autocommit=True) as connection:
            processes.wait_until(lambda: has_listener(connection), process, local.log, timeout=30)
        yield process
    finally:
        processes.end_process(process, signal.SIGTERM)


def has_listener(connection: psycopg.Connection) -> bool:
    """Return whether a dispatcher's LISTEN is in force."""
    row = connection.execute(HAS_LISTENER).fetchone()
    return row is not None and bool(row[0])


@asynccontextmanager
async def until_signal() -> AsyncGenerator[None]:
    """Leave the block at Ctrl-C, SIGTERM or a closed terminal; further signals do not cut the cleaning up short."""
    with anyio.CancelScope() as scope:
        # nohup has the terminal's farewell ignored; Ctrl-C and SIGTERM mean us even where a shell had them ignored.
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, *([] if nohup else [signal.SIGHUP])):
            asyncio.get_running_loop().add_signal_handler(number, scope.cancel)
        yield


def open_path_to_postgres(folder: Path) -> None:
    """Let PostgreSQL's user pass through a folder of ours when we are root."""
    if os.geteuid() == 0:
        folder.chmod(0o755)
