"""PostgreSQL's disk is full for a while."""

import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dispatcher.devstack import postgres
from tests.faults.own_server import OwnServer, copy_of, reconnect
from tests.faults.waits import effects_above, effects_are_exactly
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


@contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """Hand out a folder on a disk of this size."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.fail("a small disk needs mount: run as root", pytrace=False)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def own(cluster: Path, stack_folder: Path) -> Iterator[OwnServer]:
    """A server on a small disk."""
    with small_disk(stack_folder / "small-disk", "256m") as folder, copy_of(cluster, folder / "server") as server:
        server.settings |= {"max_wal_size": "48MB", "min_wal_size": "32MB"}
        server.start()
        yield server


@pytest.fixture
def url(own: OwnServer) -> str:
    """The stack uses the test's own server."""
    return own.url()


async def test_f30_rows_settle_after_a_full_disk(stack: Stack, own: OwnServer):
    process = await stack.running(**QUICK)
    await stack.novu.configure(latency_ms=100)
    await stack.burst(3000)
    await eventually(lambda: effects_above(stack, 200), "calls to Novu")
    ballast = own.folder / "ballast"
    filled_up(ballast)

    async def complained() -> bool:
        return "No space left on device" in own.read_log()

    await eventually(complained, "a server that finds no space")
    sent = (await stack.novu.summary()).effects
    ballast.unlink()
    assert sent < 3000, "the burst was over before the disk was full"
    if not own.runs:
        own.start()
    await eventually(lambda: answers(own), "the server to be back")
    await reconnect(stack, own.url())
    await stack.all_sent(3000)
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 3000)


def filled_up(ballast: Path) -> None:
    """Take all the space there is."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(65536)):
            pass


async def answers(server: OwnServer) -> bool:
    return postgres.accepts_sessions(server.url())
