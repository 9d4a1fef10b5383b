"""The local stack in one block: PostgreSQL with the outbox and our SQL, Temporal, the fake Novu.

`run_dispatcher` adds the dispatcher, as a child process like on a platform. When the block ends, also by an error or a
signal, the children are ended by their own pids, in reverse order of their start.
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
from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.install.options import Say, say_nothing

HAS_LISTENER = (
    "select exists (select from pg_stat_activity where query like 'listen \"dispatcher_canary_%' and state = 'idle')"
)


@dataclass(frozen=True)
class Ports:
    """The ports to listen on. None chooses a free port; for `ui` it means no web page."""

    postgres: int | None = None
    temporal: int | None = None
    ui: int | None = None
    novu: int | None = None


@dataclass(frozen=True)
class Stack:
    """A running stack and its data folder."""

    folder: Path
    postgres: postgres.PostgresServer
    temporal: temporal.TemporalServer
    novu: FakeNovu

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that connect a dispatcher to this stack."""
        return {
            "DATABASE_URL": self.postgres.url(),
            "TEMPORAL_ADDRESS": self.temporal.address,
            "NOVU_API_URL": self.novu.url,
            "NOVU_SECRET_KEY": self.novu.api_key,
        }

    @property
    def pids(self) -> dict[str, int]:
        """The pids of the servers, by name."""
        return {"postgres": self.postgres.pid, "temporal": self.temporal.pid, "novu": self.novu.pid}

    @property
    def log(self) -> Path:
        """The log file of this stack's dispatcher."""
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
    """Run all servers in `folder` for the block; with `keep` Temporal's state stays there too.

    `settings` are parameters of the PostgreSQL server; `say` gets a line of progress for each step.
    """
    say("starting PostgreSQL")
    with postgres.run_postgres(folder / "postgres", port=ports.postgres, settings=settings) as database:
        say("starting Temporal")
        with temporal.run_temporal(folder / "temporal", port=ports.temporal, ui_port=ports.ui, keep=keep) as server:
            stale_processes.record_pids(folder, temporal=server.pid)
            say("starting the fake Novu")
            async with run_fake_novu(port=ports.novu) as novu:
                await prepare(database.url(), say)
                yield Stack(folder, database, server, novu)


async def prepare(url: str, say: Say) -> None:
    """Create the outbox if there is none, and install the dispatcher's schema."""
    if await install.create_dev_schema(url):
        say("created the outbox, notify.ent_notification, with XNovu's seed rows")
    report = await install.install(url)
    for each in (*report.warnings, *report.remaining):
        say(f"warning: {each}")


@contextmanager
def run_dispatcher(local: Stack) -> Generator[subprocess.Popen[bytes]]:
    """Run `dispatcher run`; the block begins when its LISTEN is active."""
    # The file repeats the child's environment. It puts the folder on the child's command line, by which
    # `stale_processes` recognizes the child if this process is killed.
    env_file = local.folder / "dispatcher.env"
    variables.write(env_file, local.variables)
    with local.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "run", "--env-file", str(env_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Any free port for health: another dispatcher on this machine may use the default one.
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
    """Return whether a dispatcher's LISTEN is active."""
    row = connection.execute(HAS_LISTENER).fetchone()
    return row is not None and bool(row[0])


@asynccontextmanager
async def until_signal() -> AsyncGenerator[None]:
    """Leave the block at Ctrl-C, SIGTERM or a closed terminal. Further signals do not interrupt the clean-up."""
    with anyio.CancelScope() as scope:
        # Under nohup SIGHUP stays ignored. SIGINT and SIGTERM are handled even if a shell started us with them ignored.
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, *([] if nohup else [signal.SIGHUP])):
            asyncio.get_running_loop().add_signal_handler(number, scope.cancel)
        yield


def open_path_to_postgres(folder: Path) -> None:
    """Let PostgreSQL's user enter a folder of ours if we are root."""
    if os.geteuid() == 0:
        folder.chmod(0o755)
