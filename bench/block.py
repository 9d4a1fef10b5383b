"""One block of a measurement: a new database, a fake Novu after a reset, and the process of one contestant.

Only the measured contestant runs. An idle one beside it would poll, and a stopped one (SIGSTOP) would stay one of
Temporal's pollers and one of the database's listeners.
"""

import asyncio
import itertools
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from bench.contestants import Contestant, Ready
from bench.stack import Stack
from bench.writer import Written, write
from dispatcher.devstack import processes
from dispatcher.devstack.fake_novu.process import FakeNovu

READY_SECONDS = 30.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.02
numbers = itertools.count(1)


@dataclass(frozen=True)
class Counts:
    """The counts of one block, from the fake Novu's log."""

    contestant: str
    written: int
    accepted: int
    effects: int
    duplicates: int

    @property
    def exact(self) -> bool:
        """Whether every row was accepted exactly once."""
        return self.written == self.accepted == self.effects and not self.duplicates


ledger: list[Counts] = []
"""The counts of every block of this run."""


@dataclass
class Block:
    """A running contestant with its database."""

    contestant: Contestant
    novu: FakeNovu
    connection: AsyncConnection
    process: "subprocess.Popen[bytes]"
    ready_seconds: float
    log: Path
    written: int = 0
    history: int = 0
    """Settled rows that were added by SQL, so that no contestant has sent them."""

    async def write(self, rows: int) -> Written:
        """Write and commit `rows` rows, with what the contestant needs in that transaction."""
        self.written += rows
        return await write(self.connection, self.contestant.announce, rows)

    async def accepted(self, within: float) -> None:
        """Return once the fake Novu has accepted every row written so far; TimeoutError after `within` seconds."""
        await until(self._all_accepted, within, f"{self.contestant.name}: {self.written} rows accepted")

    async def _all_accepted(self) -> bool:
        return (await self.novu.summary()).pairs >= self.written

    async def check(self) -> None:
        """Store the counts of this block; RuntimeError unless every row was accepted exactly once."""
        summary = await self.novu.summary()
        counts = Counts(self.contestant.name, self.written, summary.pairs, summary.effects, summary.duplicate_pairs)
        ledger.append(counts)
        if not counts.exact:
            raise RuntimeError(f"not every row exactly once: {counts}")


@asynccontextmanager
async def block(stack: Stack, contestant: Contestant) -> AsyncGenerator[Block]:
    """Run `contestant` until the block ends, then check that every row was accepted exactly once."""
    async with unchecked(stack, contestant) as running:
        yield running
        await running.check()


@asynccontextmanager
async def unchecked(stack: Stack, contestant: Contestant) -> AsyncGenerator[Block]:
    """Run `contestant` until the block ends, then remove its process and its database."""
    await stack.novu.reset()
    name = f"block_{next(numbers)}"
    url = await stack.clone(contestant.template, name)
    log = stack.folder / f"{name}.log"
    began = time.monotonic()
    process = contestant.spawn(stack, url, log)
    try:
        await until(
            lambda: alive_and_ready(process, log.read_bytes(), contestant.ready),
            READY_SECONDS,
            f"{contestant.name} ready",
        )
        ready_seconds = time.monotonic() - began
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        running = Block(contestant, stack.novu, connection, process, ready_seconds, log)
        try:
            yield running
        finally:
            await running.connection.close()
    except TimeoutError as error:
        raise TimeoutError(f"{error}; the end of its log:\n{log.read_text(errors='replace')[-2000:]}") from error
    finally:
        await asyncio.to_thread(processes.end_process, process, signal.SIGTERM)
        await stack.drop(name)


async def alive_and_ready(process: "subprocess.Popen[bytes]", log: bytes, ready: Ready) -> bool:
    """Return whether the process is ready; raise when it is dead."""
    if process.poll() is not None:
        raise RuntimeError(f"ended with {process.returncode}: {log[-2000:].decode(errors='replace')}")
    return await ready(log)


async def until(true: Callable[[], Awaitable[bool]], within: float, what: str) -> None:
    """Return when `true()` returns True; TimeoutError with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not await true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within:g} s")
        await asyncio.sleep(LOOK_SECONDS)
