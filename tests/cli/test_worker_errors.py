"""How `dispatcher worker` handles answers of the port, and to which paths it sends the token."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dispatcher.cli import worker_process
from dispatcher.cli.pidfile import PidFile
from dispatcher.devstack.processes import free_port
from dispatcher.models.errors import CheckFailed
from tests.support.commands import run_dispatcher

TOKEN = "0123456789abcdef"


class FakePort(ThreadingHTTPServer):
    """A server at the health port: it answers `answer`, and records the token of each path."""

    answer = b"{}"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.shown: dict[str, str | None] = {}


class Handler(BaseHTTPRequestHandler):
    server: FakePort  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.shown[self.path] = self.headers["authorization"]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[FakePort]:
    with FakePort() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_worker(tmp_path: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_dispatcher("worker", *words, cwd=tmp_path, environment={"XDG_STATE_HOME": str(tmp_path), **settings})


def test_token_is_read_from_the_env_file_and_sent_where_needed(tmp_path: Path, port: FakePort):
    file = tmp_path / "worker.env"
    file.write_text(f"DISPATCHER_HTTP_TOKEN={TOKEN}\nDISPATCHER_HTTP_PORT={port.server_port}\n")
    done = run_worker(tmp_path, "health", "--json", "--env-file", str(file))
    assert (done.returncode, json.loads(done.stdout)["/readyz"]) == (0, {}), done.stderr
    right = f"Bearer {TOKEN}"
    assert port.shown == {"/health": None, "/readyz": None, "/health/subscriptions": right, "/health/detailed": right}
    assert run_worker(tmp_path, "status", "--env-file", str(file)).returncode == 0
    assert port.shown["/health"] is None


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'"well"', b""])
@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("health",), ("health", "--json")])
def test_answer_of_another_program_is_one_line_and_exit_1(
    tmp_path: Path, port: FakePort, answer: bytes, words: tuple[str, ...]
):
    port.answer = answer
    done = run_worker(tmp_path, *words, DISPATCHER_HTTP_PORT=str(port.server_port))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "is no answer of a dispatcher" in done.stderr


@pytest.mark.parametrize("word", ["status", "health"])
def test_missing_env_file_is_wrong_usage(tmp_path: Path, word: str):
    done = run_worker(tmp_path, word, "--env-file", "missing.env")
    assert (done.returncode, "missing.env does not exist" in done.stderr) == (2, True)


def test_status_exits_1_without_an_answer(tmp_path: Path):
    done = run_worker(tmp_path, "status", "--json", DISPATCHER_HTTP_PORT=str(free_port()))
    assert (done.returncode, json.loads(done.stdout)["health"]) == (1, None)


def test_process_of_another_user_is_not_stopped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def kill(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)  # the user who runs the tests may be allowed to end every process
    with pytest.raises(CheckFailed, match="process 4711 belongs to another user"):
        worker_process.stop_process(PidFile(tmp_path / "worker.pid"), 4711, force=False)


@pytest.mark.parametrize(("words", "quoted"), [("pass", ""), ("print('a new word')", "a new word")])
def test_error_quotes_only_the_log_of_this_start(tmp_path: Path, words: str, quoted: str):
    log = tmp_path / "worker.log"
    log.write_text("a word of an earlier start\n")
    size = worker_process.log_size(log)
    file = PidFile(tmp_path / "worker.pid")
    process = file.spawn([sys.executable, "-c", f"{words}; raise SystemExit(1)"], os.environ, log)
    with pytest.raises(CheckFailed) as caught:
        worker_process.wait_started(process, "127.0.0.1", free_port(), log, size)
    assert f"it ended with exit code 1: {quoted} (log: " in str(caught.value)
