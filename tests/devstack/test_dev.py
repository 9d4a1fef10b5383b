"""`dispatcher dev` as a person runs it: its printed settings connect, one runs in a folder, and it ends cleanly."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from temporalio.client import Client

from dispatcher import install
from dispatcher.devstack import dev, stale_processes, variables
from dispatcher.models.errors import ConfigurationError
from tests.support.waits import eventually_blocking

NAMES = ["DATABASE_URL", "TEMPORAL_ADDRESS", "NOVU_API_URL", "NOVU_SECRET_KEY"]
WRITE = """
insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)
select 'hello', 'PUBLISH', id, '{"title": "Hello", "message": "there"}', array[gen_random_uuid()]
from notify.ent_notification_workflow where workflow_key = 'default-in-app'
returning id
"""


class DevProcess:
    """One running `dispatcher dev`, with what it printed."""

    def __init__(self, process: subprocess.Popen[str], data: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.data = data
        self.printed = [line for line in (process.stdout.readline().rstrip("\n") for _ in NAMES) if line]
        self.variables = dict(line.split("=", 1) for line in self.printed)

    @property
    def pids(self) -> list[int]:
        """Its servers, and the dispatcher with `--run`."""
        postgres = (self.data / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0]
        return [int(postgres), *stale_processes.recorded_pids(self.data).values()]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit code and the rest of the output."""
        self.process.send_signal(number)
        _, words = self.process.communicate(timeout=25)
        return self.process.returncode, words


def command(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "dispatcher", "dev", "--data", str(data), *arguments]


@contextmanager
def running(data: Path, *arguments: str) -> Generator[DevProcess]:
    with subprocess.Popen(
        command(data, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        started = DevProcess(process, data)
        try:
            yield started
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=25)


def refused(data: Path, *arguments: str) -> str:
    """Return what a start that must be refused says."""
    done = subprocess.run(command(data, *arguments), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def alive(pid: int) -> bool:
    """Return whether a process does anything; an orphan that ended may wait a while for init to take note."""
    return stale_processes.command_line(pid) != ""


def value(url: str, query: str, *parameters: object) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode(), parameters).fetchone()
    return row and row[0]


@pytest.fixture(scope="module")
def dev_with_dispatcher(stack_folder: Path) -> Iterator[DevProcess]:
    with running(stack_folder / "dev", "--run", "--env-file", str(stack_folder / "dev.env")) as started:
        yield started


async def test_printed_settings_connect_to_all_three_servers(dev_with_dispatcher: DevProcess) -> None:
    found = dev_with_dispatcher.variables
    assert list(found) == NAMES
    assert await install.inspect(found["DATABASE_URL"]) == []
    client = await Client.connect(found["TEMPORAL_ADDRESS"])
    assert await client.service_client.check_health()
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": f"ApiKey {found['NOVU_SECRET_KEY']}"}
        assert (await http.get(f"{found['NOVU_API_URL']}/v1/environments/me", headers=headers)).is_success


def test_env_file_has_the_same_settings_and_is_private(dev_with_dispatcher: DevProcess, stack_folder: Path) -> None:
    file = stack_folder / "dev.env"
    assert file.read_text().splitlines() == [variables.FIRST_LINE, *dev_with_dispatcher.printed]
    assert file.stat().st_mode & 0o777 == 0o600


def test_dev_with_run_sends_a_committed_row(dev_with_dispatcher: DevProcess) -> None:
    url = dev_with_dispatcher.variables["DATABASE_URL"]
    row = value(url, WRITE)
    status = "select notification_status::text from notify.ent_notification where id = %s"
    eventually_blocking(lambda: value(url, status, row) == "SENT", "the row SENT", 15)


def test_second_dev_in_one_folder_is_refused(dev_with_dispatcher: DevProcess) -> None:
    words = refused(dev_with_dispatcher.data)
    assert f"in use by another dispatcher dev (pid {dev_with_dispatcher.process.pid})" in words


def test_data_survives_a_restart_and_a_kill(stack_folder: Path) -> None:
    data = stack_folder / "dev-restarted"
    count = "select count(*) from notify.ent_notification"
    with running(data) as first:
        value(first.variables["DATABASE_URL"], WRITE)
        pids = first.pids
        code, words = first.end(signal.SIGTERM)
    assert (code, "Traceback" in words) == (0, False)
    assert f"stopped; the data stays in {data}" in words
    assert not [pid for pid in pids if alive(pid)]
    with running(data, "--run") as second:
        assert value(second.variables["DATABASE_URL"], count) == 1
        orphans = second.pids
        second.end(signal.SIGKILL)
    assert len(orphans) == 3
    with running(data) as third:
        assert not [pid for pid in orphans if alive(pid)]
        assert value(third.variables["DATABASE_URL"], count) == 1
        code, words = third.end(signal.SIGINT)
    assert code == 0
    for name in ("postgres", "temporal", "dispatcher"):
        assert f"ending {name} (pid " in words


def test_dead_server_ends_the_others_and_is_named(stack_folder: Path) -> None:
    with running(stack_folder / "dev-broken") as started:
        pids = started.pids
        os.kill(stale_processes.recorded_pids(started.data)["temporal"], signal.SIGKILL)
        _, words = started.process.communicate(timeout=25)
    assert started.process.returncode == 1
    assert "dispatcher: temporal (pid" in words.splitlines()[-1]
    assert not [pid for pid in pids if alive(pid)]


def test_dev_as_json_prints_one_object(stack_folder: Path) -> None:
    with subprocess.Popen(
        command(stack_folder / "dev-json", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        rest, _ = process.communicate(timeout=25)
    assert (list(json.loads(first)), rest, process.returncode) == (NAMES, "", 0)


def test_env_file_of_another_program_is_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("NOVU_SECRET_KEY=production\n")
    assert "was not written by dispatcher dev" in refused(tmp_path / "data", "--env-file", str(file))
    assert file.read_text() == "NOVU_SECRET_KEY=production\n"
    assert not (tmp_path / "data").exists()


def test_env_file_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        variables.refuse_foreign(tmp_path / "missing" / "file")
    with pytest.raises(ConfigurationError, match="cannot be written: Is a directory"):
        variables.refuse_foreign(tmp_path)


def test_env_file_of_dev_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    variables.write(file, {"A": "1"})
    variables.write(file, {"A": "2"})
    assert file.read_text() == f"{variables.FIRST_LINE}\nA=2\n"
    assert [each.name for each in tmp_path.iterdir()] == ["dev.env"]


def test_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    assert "contains other files" in refused(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigurationError, match="cannot be used: Not a directory"):
        dev.data_folder(tmp_path / "thesis.txt")


def test_reused_pid_is_not_ended(tmp_path: Path) -> None:
    note = tmp_path / "postgres" / "data" / "postmaster.pid"
    note.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        note.write_text(f"{stranger.pid}\n{note.parent}\n")
        stale_processes.record_pids(tmp_path, temporal=stranger.pid)
        stale_processes.end_stale(tmp_path, pytest.fail)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert not note.exists()
    assert stale_processes.recorded_pids(tmp_path) == {}


def test_port_in_use_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert dev.free_or_other(port) != port
    assert dev.free_or_other(port) == port
