"""Runs a fake Novu: `async with run_fake_novu() as novu:` gives its URL, and its control endpoints as methods.

The port is bound here and passed to the child, so that two starts cannot get the same port. The process is ended by its
own pid; it ends by itself if its parent dies first.
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

from dispatcher.devstack.fake_novu.ledger import LoggedRequest
from dispatcher.devstack.processes import NotStarted

START_SECONDS = 15.0
STOP_SECONDS = 5.0
API_KEY = "standin-secret-key"


@dataclass(frozen=True, slots=True)
class Effect:
    """How often the API accepted one (transactionId, subscriber), the worker ran it, and it was taken back.

    `taken_back` counts cancelled runs and removed messages. Times are epoch seconds.
    """

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
    """A running fake Novu. Its methods raise ValueError if a control request is not valid."""

    def __init__(self, url: str, api_key: str, pid: int, control: httpx.AsyncClient) -> None:
        self.url = url
        self.api_key = api_key
        self.pid = pid
        self._control = control

    async def effects(
        self, *, transaction_id: str | None = None, subscriber: str | None = None, least: int = 0
    ) -> list[Effect]:
        """Return every pair accepted at least `least` times, oldest first."""
        wanted = {"transaction_id": transaction_id, "subscriber": subscriber, "least": least}
        query = {name: value for name, value in wanted.items() if value is not None}
        found: list[Effect] = []
        while rows := await self._get("effects", **query, offset=len(found)):
            found += [Effect(**row) for row in rows]
        return found

    async def requests(self) -> list[LoggedRequest]:
        """Return every answered request in the order of arrival, without health checks."""
        found: list[LoggedRequest] = []
        while rows := await self._get("requests", offset=len(found)):
            found += [LoggedRequest(**row) for row in rows]
        return sorted(found, key=lambda request: request.seq)

    async def body(self, seq: int) -> bytes | None:
        """Return the body of a logged request, byte for byte; None if it is no longer kept."""
        answer = await self._control.get(f"requests/{seq}/body")
        return answer.content if answer.is_success else None

    async def summary(self) -> Summary:
        """Return counts only; cheap enough to poll."""
        return Summary(**await self._get("summary"))

    async def wait_idle(self) -> None:
        """Return once the worker has stored a run for everything accepted so far. Delay steps may still wait."""
        while (summary := await self.summary()).queued or summary.in_flight:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.005)

    async def state(self) -> dict[str, Any]:
        """Return configuration, registrations, subscribers and the worker's losses."""
        return await self._get("state")

    async def reset(self) -> None:
        """Remove what was logged and every fault; configuration and registrations stay."""
        await self._post("reset", {})

    async def configure(self, **settings: Any) -> None:
        """Change settings, named as the fields of `settings.Config`."""
        await self._post("config", settings)

    async def add_workflow(
        self,
        key: str,
        *,
        active: bool = True,
        broken: bool = False,
        steps: Sequence[Any] = ("in_app",),
        required: Sequence[str] = (),
    ) -> None:
        """Create or replace a Novu workflow; a step is a channel or {"type", "seconds", "active"}.

        `required`: the fields that its payload schema requires.
        """
        parts = {"steps": list(steps), "required": list(required)}
        await self._post("workflows", {"key": key, "active": active, "broken": broken, **parts})

    async def add_tenant(self, identifier: str) -> None:
        """Add a tenant."""
        await self._post("tenants", {"identifier": identifier})

    async def add_topic(self, key: str, subscribers: Sequence[str]) -> None:
        """Create or replace a topic."""
        await self._post("topics", {"key": key, "subscribers": list(subscribers)})

    async def add_environment(self, api_key: str, *, name: str = "Production", organization: str = "") -> None:
        """Add an environment with its API key; by default in the organization of the first one."""
        await self._post("environments", {"api_key": api_key, "name": name, "organization": organization})

    async def add_fault(self, kind: str, **rule: Any) -> None:
        """Add a rule that makes chosen calls fail; the fields are those of `faults.Fault`."""
        await self._post("faults", {"kind": kind, **rule})

    async def clear_faults(self) -> None:
        """Remove every fault."""
        await self._post("faults/clear", {})

    async def fault_counts(self) -> list[int]:
        """Return the number of calls that each rule hit, in the order in which the rules were added."""
        return [rule["struck"] for rule in await self._get("faults")]

    async def _get(self, path: str, **query: Any) -> Any:
        answer = await self._control.get(path, params=query)
        return answer.raise_for_status().json()

    async def _post(self, path: str, data: Mapping[str, Any]) -> None:
        # json.dumps escapes the text, because a rule may contain text that is not valid UTF-8.
        answer = await self._control.post(path, content=json.dumps(data))
        if answer.status_code == 400:
            raise ValueError(answer.json()["error"])
        answer.raise_for_status()


@asynccontextmanager
async def run_fake_novu(
    *, port: int | None = None, api_key: str = API_KEY, idempotency: bool = True, **settings: Any
) -> AsyncGenerator[FakeNovu]:
    """Run a fake Novu until the block ends; `settings` are fields of `settings.Config`.

    `port` None chooses a free one. Raises NotStarted if it does not answer in time.
    """
    with socket.create_server(("127.0.0.1", port or 0), backlog=2048) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = await _start(listening, api_key, {"idempotency": idempotency, **settings})
    # Our copy of the socket is closed, so that connections are refused, and do not hang, once the process has ended.
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
    # Its own session: Ctrl-C in the terminal reaches only the owner, which then ends this process.
    return await anyio.open_process(
        [sys.executable, "-m", "dispatcher.devstack.fake_novu", *place, *how],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,
        start_new_session=True,
        pass_fds=[descriptor],
    )


async def _ready(process: Process, control: httpx.AsyncClient, url: str) -> None:
    """Return at the first answer. The inherited socket already listens, so the request waits until it is served."""
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            try:
                if (await control.get(f"{url}/v1/health-check")).is_success:
                    return
            except httpx.TransportError:
                await anyio.lowlevel.checkpoint()
    raise NotStarted(f"the fake Novu did not answer at {url}; its output is above")


async def _end(process: Process) -> None:
    """Terminate the process, kill it if it does not end in time, and collect its exit status."""
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(STOP_SECONDS):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
