"""The real servers that tests share: one PostgreSQL and one Temporal for the session, a fresh database per test."""

import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from dispatcher.devstack import postgres, temporal
from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from tests.support.databases import cloned, make_outbox_template, make_stack_template
from tests.support.invariants import find_violations, load_oracle
from tests.support.outbox_fixture import OutboxFixture, open_outbox_fixture
from tests.support.stack import Stack, open_stack
from tests.support.stack_cleanup import no_pending_cancels, none_open

# A shell that starts us in the background has SIGINT ignored, and our child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Properties are tried on a machine that others use too: how long one example takes says nothing.
hypothesis.settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    no_loop_runs()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    no_loop_runs()


def no_loop_runs() -> None:
    """Correct what the plugin tells sniffio: that a loop runs, from the first asynchronous fixture of the session on.

    Otherwise `anyio.run` refuses to start in a synchronous fixture or test, such as one of a command.
    """
    if sniffio := sys.modules.get("sniffio"):
        sniffio.current_async_library_cvar.set(None)


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    # Not pytest's own tmp_path: its parents are closed to the user PostgreSQL runs as when root tests.
    with tempfile.TemporaryDirectory(prefix="dispatcher-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server(stack_folder: Path) -> Iterator[postgres.PostgresServer]:
    # Nothing here tests durability against a power cut; fsync would only make every test wait for the disk.
    settings = {"fsync": "off", "max_connections": "300", "max_prepared_transactions": "5"}
    with postgres.run_postgres(stack_folder / "postgres", settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def temporal_server(stack_folder: Path) -> Iterator[temporal.TemporalServer]:
    with temporal.run_temporal(stack_folder / "temporal") as server:
        yield server


@pytest.fixture(scope="session")
async def outbox_template(postgres_server: postgres.PostgresServer) -> str:
    """A database with XNovu's tables and ours, to clone for each test of the outbox."""
    return await make_outbox_template(postgres_server, "outbox_template")


@pytest.fixture
async def outbox_fixture(
    postgres_server: postgres.PostgresServer, outbox_template: str
) -> AsyncIterator[OutboxFixture]:
    """The outbox module on a real PostgreSQL, in a database of the test's own."""
    async with cloned(postgres_server, outbox_template) as url, open_outbox_fixture(url) as fixture:
        yield fixture


@pytest.fixture(scope="session")
async def stack_template(postgres_server: postgres.PostgresServer) -> str:
    """A database with XNovu's tables, ours and what the invariants need, to clone for each test of a whole stack."""
    return await make_stack_template(postgres_server)


@pytest.fixture
async def url(postgres_server: postgres.PostgresServer, stack_template: str) -> AsyncIterator[str]:
    async with cloned(postgres_server, stack_template) as url:
        yield url


@pytest.fixture
async def novu() -> AsyncIterator[FakeNovu]:
    async with run_fake_novu() as fake_novu:
        yield fake_novu


@pytest.fixture
async def stack(
    url: str, temporal_server: temporal.TemporalServer, novu: FakeNovu, tmp_path: Path
) -> AsyncIterator[Stack]:
    """A stack per test; after the test, when all is quiet, the invariants are checked."""
    async with open_stack(url, temporal_server.address, novu, tmp_path) as stack:
        yield stack
        await stack.quiet()
        await none_open(stack)
        await no_pending_cancels(stack)
        await load_oracle(stack.connection, stack.novu)
        assert await find_violations(stack.connection) == {}
