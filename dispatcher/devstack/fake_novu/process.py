"""Starting a stand-in from Python: `async with running() as novu:` gives one with its control endpoints as methods.

The port is bound here and handed down, so two starts can never fight over one. The process is ended by its own pid,
and it ends by itself when its parent dies without doing so.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import httpx
from anyio.abc import Process

from dispatcher.devstack.processes import NotStarted

START_SECONDS = 15.0
STOP_SECONDS = 5.0
API_KEY = "standin-secret-key"


@dataclass(frozen=True, slots=True)
class Effect:
    """How often one (transactionId, subscriber) was accepted by the API, run by the worker, and taken back."""

    environment: str
    transaction_id: str
    subscriber: str
    workflow: str
    accepted: int
    runs: int
    first_at: float
    last_at: float
    taken_back: int = 0


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One answered request; times are epoch seconds, `effects` counts what it alone brought about."""

    seq: int
    started_at: float
    ended_at: float
    method: str
    path: str
    environment: str | None
    idempotency_key: str | None
    transaction_ids: list[str | None]
    subscribers: list[str]
    workflow_keys: list[str | None]
    tenants: list[str]
    body_hash: str
    status: int
    replayed: bool
    effects: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts since the start or the last reset."""

    requests: int
    pairs: int
    effects: int
    duplicate_pairs: int
    runs: int
    replays: int
    pairs_dropped: int
    requests_dropped: int
    statuses: dict[str, int]
    queued: int
    in_flight: int
    worker_duplicates: int
    worker_losses: int


class FakeNovu:
    """A running stand-in: where it is, and what can be asked of it."""

    def __init__(self, url: str, api_key: str, pid: int, control: httpx.AsyncClient) -> None:
        self.url = url
        self.api_key = api_key
        self.pid = pid
        self._control = control

    async def effects(
        self, *, transaction_id: str | None = None, subscriber: str | None = None, least: int = 0
    ) -> list[Effect]:
        """Every pair accepted at least `least` times, oldest first."""
        wanted = {"transaction_id": transaction_id, "subscriber": subscriber, "least": least}
        query = {name: value for name, value in wanted.items() if value is not None}
        found: list[Effect] = []
        while rows := await self._get("effects", **query, offset=len(found)):
            found += [Effect(**row) for row in rows]
        return found

    async def requests(self) -> list[LoggedRequest]:
        """Every answered request in order of arrival, health checks left out."""
        found: list[LoggedRequest] = []
        while rows := await self._get("requests", offset=len(found)):
            found += [LoggedRequest(**row) for row in rows]
        return sorted(found, key=lambda request: request.seq)

    async def body(self, seq: int) -> bytes | None:
        """A logged request's body, byte for byte; None when it is no longer kept."""
        answer = await self._control.get(f"requests/{seq}/body")
        return answer.content if answer.is_success else None

    async def summary(self) -> Summary:
        """Counts only; cheap enough to poll."""
        return Summary(**await self._get("summary"))

    async def wait_idle(self) -> None:
        """Return once the worker has picked up and stored everything accepted so far; delay steps may still wait."""
        while (summary := await self.summary()).queued or summary.in_flight:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.005)

    async def state(self) -> dict[str, Any]:
        """Configuration, registrations, subscribers and what the worker lost."""
        return await self._get("state")

    async def reset(self) -> None:
        """Forget what happened and every fault; configuration and registrations stay."""
        await self._post("reset", {})

    async def configure(self, **settings: Any) -> None:
        """Change settings by the names of `settings.Config`."""
        await self._post("config", settings)

    async def add_workflow(self, key: str, *, active: bool = True, steps: Sequence[Any] = ("in_app",)) -> None:
        """Create or replace a workflow; a step is a channel or {"type", "seconds", "active"}."""
        await self._post("workflows", {"key": key, "active": active, "steps": list(steps)})

    async def add_tenant(self, identifier: str) -> None:
        """Make a tenant exist."""
        await self._post("tenants", {"identifier": identifier})

    async def add_topic(self, key: str, subscribers: Sequence[str]) -> None:
        """Create or replace a topic."""
        await self._post("topics", {"key": key, "subscribers": list(subscribers)})

    async def add_environment(self, api_key: str, *, name: str = "Production", organization: str = "") -> None:
        """Make another API key valid; by default in the organization of the first."""
        await self._post("environments", {"api_key": api_key, "name": name, "organization": organization})

    async def add_fault(self, kind: str, **rule: Any) -> None:
        """Make chosen calls go wrong; the fields are those of `faults.Fault`."""
        await self._post("faults", {"kind": kind, **rule})

    async def clear_faults(self) -> None:
        """Go back to answering as Novu does."""
        await self._post("faults/clear", {})

    async def fault_counts(self) -> list[int]:
        """How often each rule struck, in the order they were added."""
        return [rule["struck"] for rule in await self._get("faults")]

    async def _get(self, path: str, **query: Any) -> Any:
        answer = await self._control.get(path, params=query)
        return answer.raise_for_status().json()

    async def _post(self, path: str, data: Mapping[str, Any]) -> None:
        # Escaped, because a rule may want words that are no UTF-8.
        answer = await self._control.post(path, content=json.dumps(data))
        if answer.status_code == 400:
            raise ValueError(answer.json()["error"])
        answer.raise_for_status()


@asynccontextmanager
async def run_fake_novu(
    *, port: int | None = None, api_key: str = API_KEY, idempotency: bool = True, **settings: Any
) -> AsyncGenerator[FakeNovu]:
    """Run a stand-in until the block ends; `settings` are fields of `settings.Config`."""
    with socket.create_server(("127.0.0.1", port or 0), backlog=2048) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = await _start(listening, api_key, {"idempotency": idempotency, **settings})
    # Our copy of the socket is closed: with the process gone, connections are refused and not left hanging.
    try:
        async with httpx.AsyncClient(base_url=f"{url}/_standin/", timeout=30, trust_env=False) as control:
            await _ready(process, control, url)
            yield FakeNovu(url, api_key, process.pid, control)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _start(listening: socket.socket, api_key: str, settings: Mapping[str, Any]) -> Process:
    descriptor = listening.fileno()
    place = ["--fd", str(descriptor), "--parent-pid", str(os.getpid())]
    how = ["--api-key", api_key, "--config", json.dumps(settings)]
    # A session of its own: Ctrl-C at the terminal is for the owner, who then ends us in order.
    return await anyio.open_process(
        [sys.executable, "-m", "dispatcher.devstack.fake_novu", *place, *how],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,
        start_new_session=True,
        pass_fds=[descriptor],
    )


async def _ready(process: Process, control: httpx.AsyncClient, url: str) -> None:
    """Return at the first answer. The handed-down socket already listens, so the question just waits for it."""
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            try:
                if (await control.get(f"{url}/v1/health-check")).is_success:
                    return
            except httpx.TransportError:
                await anyio.lowlevel.checkpoint()
    raise NotStarted(f"the Novu stand-in did not answer at {url}; its own words are above")


async def _end(process: Process) -> None:
    """Ask it to stop, kill it when it does not, and leave nothing to reap."""
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(STOP_SECONDS):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
