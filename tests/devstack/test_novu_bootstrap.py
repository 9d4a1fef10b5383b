"""The way to Novu's first key, against a server that answers as Novu 2.0.0 was seen to.

Novu 3.19 itself does not run here; what happens with answers of another shape is tested instead.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dispatcher.devstack.processes import free_port

EMAIL, PASSWORD, KEY = "admin@example.com", "Only-on-this-machine-1", "0123456789abcdef0123456789abcdef"


class FakeDashboard(ThreadingHTTPServer):
    """Accounts in memory."""

    accounts: dict[str, str]
    modern = False
    """Whether the routes of 2.0.0 are gone."""
    unhealthy = 0

    def answer(self, path: str, body: dict[str, Any], token: str) -> tuple[int, Any]:
        """Answer as 2.0.0 did."""
        if path == "/v1/health-check":
            self.unhealthy -= 1
            return (503 if self.unhealthy >= 0 else 200), {}
        if self.modern:
            return 404, {"message": "Cannot find it"}
        if path == "/v1/auth/register":
            assert body["organizationName"]
            if body["email"] in self.accounts:
                return 400, {"message": "User already exists"}
            self.accounts[body["email"]] = body["password"]
            return 201, {"data": {"token": "t0"}}
        if path == "/v1/auth/login":
            right = self.accounts.get(body["email"]) == body["password"]
            return (201, {"data": {"token": "t1"}}) if right else (401, {"message": "Incorrect email or password"})
        assert (path, token) == ("/v1/environments", "Bearer t1")
        environments = [
            {"name": "Production", "apiKeys": [{"key": "f" * 32}]},
            {"name": "Development", "apiKeys": [{"key": KEY}]},
        ]
        return 200, {"data": environments}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FakeDashboard  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        status, answer = self.server.answer(self.path, body, self.headers.get("Authorization", ""))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


@pytest.fixture
def novu() -> Iterator[FakeDashboard]:
    with FakeDashboard(("127.0.0.1", 0), Handler) as server:
        server.accounts = {}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def first_key(port: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dispatcher.devstack.novu_bootstrap", "--url", f"http://127.0.0.1:{port}/"]
    environment = {"NOVU_ADMIN_EMAIL": EMAIL, "NOVU_ADMIN_PASSWORD": PASSWORD}
    return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_bootstrap_waits_creates_an_account_and_prints_settings(novu: FakeDashboard):
    novu.unhealthy = 2
    done = first_key(novu.server_port)
    lines = [f"NOVU_API_URL=http://127.0.0.1:{novu.server_port}", f"NOVU_SECRET_KEY={KEY}"]
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, lines, "")
    assert novu.accounts == {EMAIL: PASSWORD}


def test_second_bootstrap_uses_the_existing_account_and_the_named_environment(novu: FakeDashboard):
    novu.accounts[EMAIL] = PASSWORD
    assert first_key(novu.server_port, "--environment", "Production").stdout.endswith(f"NOVU_SECRET_KEY={'f' * 32}\n")


@pytest.mark.parametrize("trouble", ["another password", "newer routes", "no such environment"])
def test_failed_bootstrap_prints_the_manual_steps(novu: FakeDashboard, trouble: str):
    if trouble == "another password":
        novu.accounts[EMAIL] = "something else"
    novu.modern = trouble == "newer routes"
    done = first_key(novu.server_port, *(["--environment", "Nowhere"] if trouble == "no such environment" else []))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "by hand" in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    assert KEY not in done.stderr


def test_bootstrap_without_a_server_exits_3():
    done = first_key(free_port(), "--wait", "0")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no answer from" in done.stderr
