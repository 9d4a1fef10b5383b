"""A pid file is believed only if no other user can have written it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.cli.pidfile import PidFile
from dispatcher.devstack.stale_processes import PIDS_FILE, recorded_pids
from dispatcher.models.errors import ConfigurationError
from tests.support.commands import run_dispatcher
from tests.support.pid_files import locked_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_f230_own_locked_file_names_its_process(folder: Path):
    with locked_file(folder / "worker.pid") as file:
        assert file.pid() == 4711
    assert file.pid() is None


@pytest.mark.parametrize("text", ["1\n", "0\n", "-1\n", "-4711\n", "", "4711 4712\n", "9" * 400])
def test_f230_number_that_is_no_single_process_is_refused(folder: Path, text: str):
    with locked_file(folder / "worker.pid", text) as file, pytest.raises(ConfigurationError, match="not a pid file"):
        file.pid()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_f230_file_that_others_can_write_is_refused(folder: Path, mode: int):
    with locked_file(folder / "worker.pid") as file:
        file.path.chmod(mode)
        with pytest.raises(ConfigurationError, match="another user owns it or can write it"):
            file.pid()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_f230_folder_that_others_can_write_to_is_refused(folder: Path, mode: int):
    with locked_file(folder / "worker.pid") as file:
        folder.chmod(mode)
        with pytest.raises(ConfigurationError, match="other users can write to its folder"):
            file.pid()
        folder.chmod(0o755)
        assert file.pid() == 4711


def test_f230_file_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with locked_file(folder / "worker.pid") as file:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(ConfigurationError, match="another user owns it"):
            file.pid()


def test_f230_link_is_not_followed(folder: Path):
    with locked_file(folder / "real.pid"):
        (folder / "worker.pid").symlink_to(folder / "real.pid")
        with pytest.raises(ConfigurationError, match="not a pid file"):
            PidFile(folder / "worker.pid").pid()


@pytest.mark.parametrize("command", ["start", "stop", "status", "restart"])
def test_f230_fifo_does_not_hang(folder: Path, command: str):
    os.mkfifo(folder / "worker.pid", 0o600)
    done = run_dispatcher("worker", command, "--pid-file", str(folder / "worker.pid"), cwd=folder, environment={})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "is not a pid file" in done.stderr


def test_f230_stop_signals_no_process_of_a_file_that_others_can_write(folder: Path):
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with locked_file(folder / "worker.pid", f"{victim.pid}\n") as file:
            file.path.chmod(0o666)
            done = run_dispatcher("worker", "stop", "--pid-file", str(file.path), cwd=folder, environment={})
        assert done.returncode == 2, done.stderr
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_f230_log_that_is_a_fifo_without_a_reader_is_an_error(folder: Path):
    os.mkfifo(folder / "worker.log", 0o600)
    with pytest.raises(ConfigurationError, match="--log-file"):
        PidFile(folder / "worker.pid").spawn([sys.executable, "-c", ""], {}, folder / "worker.log")


@pytest.mark.parametrize("text", ["[1]", '"x"', '{"postgres": "4711"}', '{"postgres": null}', "{"])
def test_f230_record_of_children_that_is_none_names_no_process(folder: Path, text: str):
    (folder / PIDS_FILE).write_text(text)
    assert recorded_pids(folder) == {}
