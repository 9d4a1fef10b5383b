"""The servers that one run shares: PostgreSQL with fsync on, a Temporal dev server and a fake Novu, all on loopback.

PostgreSQL keeps the time of each commit, so that the final state of a row has a time that no contestant writes. Every
block of a measurement gets its own database, cloned from its contestant's template, so that no block finds rows of
another one.
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
from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu

Prepare = Callable[[str], Awaitable[object]]
"""Installs the objects of a contestant in the database at a URL, which already has the outbox."""

Say = Callable[[str], None]
"""Prints a line of progress."""
SECONDS = 15.0
"""About how long the servers and the templates take to start."""

UNBIND = """
do $$
begin
  update dispatcher.installation set bound_to = null;
exception when invalid_schema_name or undefined_table or undefined_column then
  null;  -- of another contestant, or of an earlier version
end
$$
"""
"""A dispatcher sends nothing from a copied database, unless the copy is not bound to the template."""


@dataclass(frozen=True)
class Stack:
    """The running servers."""

    database: postgres.PostgresServer
    temporal: temporal.TemporalServer
    novu: FakeNovu
    folder: Path

    @property
    def database_log(self) -> Path:
        """The log of PostgreSQL."""
        return self.folder / "postgres" / "postgres.log"

    async def template(self, name: str, prepare: Prepare) -> None:
        """Create the template database of a contestant."""
        await self._administer("create database {}", name)
        await install.create_dev_schema(self.database.url(name))
        await prepare(self.database.url(name))

    async def clone(self, template: str, name: str) -> str:
        """Return the URL of a new database `name`, a copy of a template."""
        await self._administer("create database {} template {}", name, template)
        url = self.database.url(name)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(UNBIND)
        return url

    async def drop(self, name: str) -> None:
        """Drop a database and end the sessions that are still connected to it."""
        await self._administer("drop database {} with (force)", name)

    async def _administer(self, statement: str, *names: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.database.url(), autocommit=True) as connection:
            await connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def running() -> AsyncGenerator[Stack]:
    """Run the servers until the block ends, with their data in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # noqa: PTH101  (PostgreSQL runs as another user when root measures)
        settings = {"fsync": "on", "shared_buffers": "256MB", "track_commit_timestamp": "on"}
        with (
            postgres.run_postgres(folder / "postgres", settings=settings) as database,
            temporal.run_temporal(folder / "temporal") as temporal_server,
        ):
            async with run_fake_novu() as novu:
                yield Stack(database, temporal_server, novu, folder)


async def output_of(folder: Path, *command: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in `folder` to its end; return its exit code and its output. A cancellation kills the process."""
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
