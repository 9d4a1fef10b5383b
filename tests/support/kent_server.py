"""A Sentry to send to: kent, as a server of its own."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dispatcher.devstack.processes import accepts_connections, free_port
from dispatcher.devstack.processes import run_server as running_process


@dataclass
class Kent:
    """The items that Sentry received: the newest hundred, and `received`, every byte of all of them."""

    port: int
    log: Path
    forgotten: int = 0

    @property
    def dsn(self) -> str:
        """Where to send."""
        return f"http://public@127.0.0.1:{self.port}/1"

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Return the items of one kind, `event` or `check_in`, oldest first."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api", trust_env=False, timeout=10) as http:
            ids = [event["event_id"] for event in http.get("/eventlist/").json()["events"]]
            payloads = [http.get(f"/event/{id_}").json()["payload"] for id_ in ids]
        return [payload["body"] for payload in payloads if payload["header"]["type"] == kind]

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """Return the alerts of one kind of ours."""
        return [event for event in self.items("event") if event["tags"]["kind"] == kind]

    @property
    def received(self) -> str:
        """Return everything that came in, headers too."""
        return self.log.read_text()[self.forgotten :]

    def forget(self) -> None:
        """Begin anew."""
        httpx.post(f"http://127.0.0.1:{self.port}/api/flush/", trust_env=False).raise_for_status()
        self.forgotten = len(self.log.read_text())

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of all alerts, in order."""
        return [event["tags"]["kind"] for event in self.items("event")]


def counted(events: list[dict[str, Any]]) -> int:
    """Return how many alerts these count."""
    return sum(1 + event["contexts"]["dispatcher"]["withheld"] for event in events)


@contextmanager
def running(folder: Path) -> Generator[Kent]:
    """Run kent until the block ends."""
    port = free_port()
    log = folder / "kent.log"
    args = ["env", "KENT_DEV=1", sys.executable, "-m", "flask", "--app", "kent.app", "run", "--port", str(port)]
    with running_process(args, log=log, ready=lambda: accepts_connections(port)):
        yield Kent(port, log)
