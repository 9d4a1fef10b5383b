"""`dispatcher worker` and `daemon`: a real process in the background, and no foreign process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from dispatcher.cli.pidfile import PidFile
from dispatcher.devstack.processes import free_port
from tests.support.stack import Stack, as_run_role
from tests.support.waits import eventually

Command = Callable[..., Any]


@pytest.fixture
async def worker(stack: Stack) -> AsyncIterator[Command]:
    """Run `dispatcher worker …` beside the stack; a process left in the background is ended by its pid."""
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_STATE_HOME": str(stack.folder),
        "DATABASE_URL": as_run_role(stack.url),
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "TEMPORAL_TASK_QUEUE": stack.queue,
        "NOVU_API_URL": stack.novu.url,
        "NOVU_SECRET_KEY": stack.novu.api_key,
        "DISPATCHER_HTTP_PORT": str(free_port()),
    }

    async def run(*arguments: str, group: str = "worker", **settings: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "dispatcher", group, *arguments]
        return await anyio.run_process(command, env={**environment, **settings}, cwd=stack.folder, check=False)

    yield run
    if (pid := file_of(stack).pid()) is not None:
        os.kill(pid, signal.SIGKILL)


def file_of(stack: Stack) -> PidFile:
    """Return the pid file that the commands use."""
    return PidFile(stack.folder / "dispatcher" / "worker.pid")


async def test_worker_starts_reports_restarts_and_stops(stack: Stack, worker: Command):
    nobody = await worker("status", "--json")
    assert (nobody.returncode, json.loads(nobody.stdout)["running"]) == (1, False)
    assert (await worker("health")).returncode == 3

    started = await worker("start", "--json")
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout)
    assert told["ready"]
    assert file_of(stack).pid() == told["pid"]
    [ready] = [line for line in read_log(told["log_file"]).splitlines() if '"started"' in line]
    assert json.loads(ready)["loop"] == "uvloop"
    assert await stack.final(await stack.notify()) == ["SENT"]

    again = await worker("start")
    assert (again.returncode, again.stdout) == (1, b"")
    assert f"dispatcher is running already, as process {told['pid']}" in again.stderr.decode()
    taken = await worker("start", "--pid-file", str(stack.folder / "other.pid"))
    assert taken.returncode == 2
    assert b"choose another --health-port" in taken.stderr

    status = await worker("status", "--json", group="daemon")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["pid"] == told["pid"]
    assert json.loads(status.stdout)["health"]["version"]
    health = await worker("health", "--json")
    assert health.returncode == 0, health.stderr
    assert json.loads(health.stdout)["/health/detailed"]["process"]["pid"] == told["pid"]

    restarted = json.loads((await worker("restart", "--json", "--log-level", "debug")).stdout)
    assert restarted["pid"] != told["pid"] == await gone(told["pid"])
    assert await stack.final(await stack.notify()) == ["SENT"]
    stopped = await worker("stop")
    assert (stopped.returncode, stopped.stdout.startswith(f"process {restarted['pid']} stopped".encode())) == (0, True)
    assert await gone(restarted["pid"])
    assert await stack.rows("select from dispatcher.node") == []
    assert (await worker("stop")).stdout.startswith(b"not running")


async def test_failed_start_prints_the_reason_and_exits_like_run(stack: Stack, worker: Command):
    failed = await worker("start", TEMPORAL_ADDRESS="127.0.0.1:9")
    assert failed.returncode == 3
    assert b"cannot connect to a Temporal server" in failed.stderr
    assert (await worker("start", DISPATCHER_LEASE="soon")).returncode == 2
    assert file_of(stack).pid() is None


async def test_reused_pid_is_not_stopped(stack: Stack, worker: Command):
    await worker("start")
    pid = file_of(stack).pid()
    assert pid
    killed = await worker("stop", "--force", "--json")
    assert (json.loads(killed.stdout)["killed"], await gone(pid)) == (True, pid)
    stranger = waiting()
    file_of(stack).path.write_text(f"{stranger.pid}\n")
    try:
        assert (await worker("stop", "--force")).stdout.startswith(b"not running")
        assert stranger.poll() is None
    finally:
        stranger.communicate()


async def test_stop_waits_and_reports_it(stack: Stack, worker: Command, tmp_path: Path):
    file = PidFile(tmp_path / "slow.pid")
    slow = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(6.5), exit(0))); time.sleep(60)"
    process = file.spawn([sys.executable, "-c", slow], os.environ, tmp_path / "slow.log")
    await anyio.sleep(0.5)  # until it catches the signal; without that it would only end sooner
    stopped = await worker("stop", "--pid-file", str(file.path))
    assert stopped.returncode == 0, stopped.stderr
    assert f"process {process.pid} is finishing the rows in work, 5 s so far" in stopped.stderr.decode()
    assert process.wait(5) == 0


async def test_foreground_start_replaces_the_process(stack: Stack, worker: Command):
    one = stack.start(
        (sys.executable, "-m", "dispatcher", "daemon", "start", "--foreground"),
        XDG_STATE_HOME=str(stack.folder),
        DISPATCHER_HTTP_PORT=str(free_port()),
    )

    async def listening() -> bool:
        return '"listening"' in one.read_log()

    await eventually(listening, "a process that works")
    assert file_of(stack).pid() == one.popen.pid
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await one.stop() == 0
    assert file_of(stack).pid() is None


def read_log(log: str) -> str:
    """Return what is in a log."""
    return Path(log).read_text()


def waiting() -> subprocess.Popen[bytes]:
    """Start a process that waits until its stdin is closed."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def state(pid: int) -> str | None:
    """Return a process's state as the kernel names it, None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


async def gone(pid: int) -> int:
    """Wait until the process has ended; its parent may take a moment to reap it."""

    async def ended() -> bool:
        return state(pid) in (None, "Z")

    await eventually(ended, f"the end of {pid}")
    return pid
