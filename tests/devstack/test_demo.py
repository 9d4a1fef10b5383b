"""The demo as a person runs it, once for all; its verdict, with every kind of mismatch planted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dispatcher.devstack.demo.scenario import SCENARIO


class DemoRun(NamedTuple):
    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.stdout)


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo among settings that would lead it astray if it looked at them."""
    folder.mkdir()
    folder.chmod(0o755)
    astray = {
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
        "DISPATCHER_NOTIFY_MODE": "off",
        "DISPATCHER_OUTBOX": "elsewhere.outbox",
        "NOVU_API_URL": "http://127.0.0.1:1",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "TEMPORAL_API_KEY": "secret",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dispatcher", "demo", *arguments],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), **astray},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(folder: Path, *arguments: str) -> DemoRun:
    with demo(folder, *arguments) as process:
        stdout, stderr = process.communicate(timeout=50)
    return DemoRun(process.returncode, stdout, stderr, folder)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def done(stack_folder: Path) -> DemoRun:
    return finished(stack_folder / "demo", "--json")


def test_demo_exits_0_with_the_expected_results(done: DemoRun) -> None:
    assert (done.code, done.document["mismatches"], done.document["ok"]) == (0, [], True), done.stderr
    assert [step["step"] for step in done.document["steps"]] == [step.key for step in SCENARIO]


@pytest.mark.parametrize("step", SCENARIO, ids=lambda step: step.key)
def test_every_demo_step_ends_as_its_scenario_says(done: DemoRun, step: Any) -> None:
    [told] = [told for told in done.document["steps"] if told["step"] == step.key]
    assert told["rows"] == step.rows
    assert told["statuses"] == {step.status: step.rows}
    assert told["outcomes"] == ({step.outcome: step.rows} if step.outcome else {})


def test_demo_measures_every_hop(done: DemoRun) -> None:
    latency = done.document["latency_ms"]
    for group in ("one_at_a_time", "burst"):
        assert set(latency[group]) == {"claimed", "requested", "settled", "total"}
        for hop in latency[group].values():
            assert 0 <= hop["p50"] <= hop["p95"] <= hop["max"]
    assert latency["one_at_a_time"]["total"]["max"] > 0
    assert done.document["burst_rows_per_second"] > 0


def test_demo_counts_novus_acceptances(done: DemoRun) -> None:
    sendings = sum(step.rows * step.accepted for step in SCENARIO)
    assert done.document["effects"] == {"expected": sendings, "accepted": sendings, "more_than_once": 0}


def test_demo_leaves_no_processes_and_files(done: DemoRun) -> None:
    assert set(done.document["processes"]) == {"postgres", "temporal", "novu", "dispatcher"}
    assert not [pid for pid in done.document["processes"].values() if alive(pid)]
    assert not list(done.folder.glob("dispatcher-demo-*"))


def test_demo_text_goes_to_stderr(done: DemoRun) -> None:
    assert done.stdout.startswith("{")
    for step in SCENARIO:
        assert step.title in done.stderr
    assert "everything as expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_out_of_time_exits_1_and_keeps_the_logs(stack_folder: Path) -> None:
    done = finished(stack_folder / "hurried-demo", "--timeout", "1s")
    assert done.code == 1
    assert "scheduled: 1 of 1 ended as PENDING instead of SENT" in done.stdout
    assert "not finished after 1 s" in done.stderr
    assert "the end of the dispatcher's log" in done.stderr
    [kept] = done.folder.glob("dispatcher-demo-*")
    assert f"the logs are in {kept}" in done.stderr
    assert {"dispatcher.log", "postgres.log", "temporal.log"} <= {file.name for file in kept.rglob("*.log")}
    assert not (kept / "postgres" / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_cleans_up(stack_folder: Path, number: signal.Signals) -> None:
    with demo(stack_folder / f"demo-{number.name}") as process:
        pids = children_of(process.pid, at_least=3)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert not [pid for pid in pids if alive(pid)]
    assert not list((stack_folder / f"demo-{number.name}").glob("dispatcher-demo-*"))


def children_of(pid: int, *, at_least: int) -> list[int]:
    """Return the pids of a process's children, once there are so many."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 20
    while len(found := [int(child) for child in file.read_text().split()]) < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_demo_timeout_without_unit_is_refused(stack_folder: Path) -> None:
    done = finished(stack_folder / "refused-demo", "--timeout", "5")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("dispatcher: --timeout should be")
