"""The servers one run shares: PostgreSQL with fsync on, a Temporal dev server and a Novu stand-in, all on loopback.

PostgreSQL keeps the time of each commit, so that a row's final state has a time that no contestant writes.
Every block of a measurement gets a database of its own, cloned from its contestant's template, so that no block finds
what another left.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from dispatcher import install
from dispatcher.devstack import postgres, temporal
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.fake_novu.process import run_fake_novu as standin_running

Prepare = Callable[[str], Awaitable[object]]
"""Installs what a contestant needs into the database at a URL that already holds the outbox."""

Say = Callable[[str], None]
"""Tells whoever waits what is going on."""


@dataclass(frozen=True)
class Stack:
    """The running servers."""

    database: postgres.PostgresServer
    temporal: temporal.TemporalServer
    novu: FakeNovu
    folder: Path

    async def template(self, name: str, prepare: Prepare) -> None:
        """Make the database that a contestant's blocks are cloned from."""
        await self._administer("create database {}", name)
        await install.create_dev_schema(self.database.url(name))
        await prepare(self.database.url(name))

    async def clone(self, template: str, name: str) -> str:
        """Return the URL of a fresh copy of a template."""
        await self._administer("create database {} template {}", name, template)
        return self.database.url(name)

    async def drop(self, name: str) -> None:
        """Remove a database, and whoever is still connected to it."""
        await self._administer("drop database {} with (force)", name)

    async def _administer(self, statement: str, *names: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.database.url(), autocommit=True) as connection:
            await connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def running() -> AsyncGenerator[Stack]:
    """Run the servers until the block ends, with their data in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # noqa: PTH101  (PostgreSQL runs as another user when root measures)
        settings = {"fsync": "on", "shared_buffers": "256MB", "track_commit_timestamp": "on"}
        with (
            postgres.run_postgres(folder / "postgres", settings=settings) as database,
            temporal.run_temporal(folder / "temporal") as temporal_server,
        ):
            async with standin_running() as novu:
                yield Stack(database, temporal_server, novu, folder)


async def output_of(folder: Path, *command: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in `folder` to its end; return its exit code and all it printed. Kill it when cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=env,
    )
    try:
        words, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, words.decode(errors="replace")
