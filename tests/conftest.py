"""The real servers that tests share: one PostgreSQL and one Temporal for the session, a fresh database per test."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.devstack import postgres, temporal

# A shell that starts us in the background has SIGINT ignored, and whom we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


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
    with postgres.running(stack_folder / "postgres", settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def temporal_server(stack_folder: Path) -> Iterator[temporal.TemporalServer]:
    with temporal.running(stack_folder / "temporal") as server:
        yield server
