"""The contestants: the floor, Dispatcher, Dispatcher with one workflow per row, PgQueuer and Procrastinate.

A contestant is a process of its own, a template database, and what it asks of the writer's transaction. `revisions.py`
makes two more out of two commits.
"""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import AsyncConnection

from bench import peer_pgqueuer, peer_procrastinate
from bench.floor import CHANNEL
from bench.stack import Prepare, Stack
from bench.writer import Announce
from dispatcher import install

ROOT = Path(__file__).resolve().parents[1]
OURS = ("DISPATCHER_", "TEMPORAL_", "NOVU_", "DATABASE_URL", "PG", "SENTRY_")

Ready = Callable[[bytes], Awaitable[bool]]
"""Tells from a contestant's log so far, or by asking the contestant, whether it is ready."""


def logged(word: bytes) -> Ready:
    """Return the check that looks for a word in the log."""

    async def ready(log: bytes) -> bool:
        return word in log

    return ready


READY = logged(b"ready")


def environment(source: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that imports from `source`, without the caller's settings of Dispatcher."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    return {**inherited, "PYTHONPATH": path, **variables}


@dataclass(frozen=True)
class Contestant:
    """How to install it, how to run it, what the writer does for it, how to see that it is ready, where its code is."""

    name: str
    template: str
    prepare: Prepare
    command: tuple[str, ...]
    announce: Announce
    ready: Ready = READY
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    source: Path = ROOT

    def spawn(self, stack: Stack, url: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start its process, with the environment of this stack and nothing of the caller's."""
        variables = {
            "DATABASE_URL": url,
            "TEMPORAL_ADDRESS": stack.temporal.address,
            "TEMPORAL_TASK_QUEUE": url.rsplit("/", 1)[1],
            "NOVU_API_URL": stack.novu.url,
            "NOVU_SECRET_KEY": stack.novu.api_key,
            **self.environment,
        }
        with log.open("wb") as words:
            return subprocess.Popen(
                [sys.executable, "-m", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                cwd=stack.folder,
                env=environment(self.source, variables),
                start_new_session=True,
            )


async def nothing(*_: object) -> None:
    """Do nothing, for a contestant that needs no preparation or no announcement."""


async def notify_recipients(connection: AsyncConnection, ids: list[int], recipients: list[str]) -> None:  # noqa: ARG001
    """Send the recipients to the floor in NOTIFYs."""
    await connection.execute("select pg_notify(%s, recipient) from unnest(%s::text[]) recipient", [CHANNEL, recipients])


async def install_dispatcher(url: str) -> None:
    """Install as `dispatcher db install` does."""
    await install.install(url, install.Options())


FLOOR = Contestant("floor", "template_floor", nothing, ("bench.floor",), notify_recipients)
DISPATCHER = Contestant(
    "dispatcher",
    "template_dispatcher",
    install_dispatcher,
    ("dispatcher", "run"),
    nothing,
    logged(b'"listening"'),
    {"DISPATCHER_LOG_FORMAT": "json", "DISPATCHER_HTTP_PORT": "0"},
)
ONE_BY_ONE = Contestant(
    "one workflow per row",
    DISPATCHER.template,
    DISPATCHER.prepare,
    DISPATCHER.command,
    nothing,
    DISPATCHER.ready,
    {**DISPATCHER.environment, "DISPATCHER_BATCH_SIZE": "1"},
)
PGQUEUER = Contestant(
    "pgqueuer", "template_pgqueuer", peer_pgqueuer.prepare, ("bench.peer_pgqueuer",), peer_pgqueuer.announce
)
PROCRASTINATE = Contestant(
    "procrastinate",
    "template_procrastinate",
    peer_procrastinate.prepare,
    ("bench.peer_procrastinate",),
    peer_procrastinate.announce,
)
PEERS = (PGQUEUER, PROCRASTINATE)
EVERYBODY = (FLOOR, DISPATCHER, *PEERS)
BASE = "0b5b0c9"
"""The commit of this repository that takes part, where git has it: the measure of what was gained since."""


async def prepare_all(stack: Stack) -> None:
    """Create the template database of each contestant."""
    for contestant in EVERYBODY:
        await stack.template(contestant.template, contestant.prepare)
