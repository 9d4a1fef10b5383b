"""The benchmark runs, and each contestant really does the work. Its numbers are not checked."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from bench import flood
from dispatcher.devstack.processes import free_port
from tests.support.repository import ROOT

CONTESTANTS = {"floor", "dispatcher", "pgqueuer", "procrastinate"}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    command = [sys.executable, "-m", "bench", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    # A block ends with an error unless the fake Novu accepted each of its rows exactly once.
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_run_measures_every_contestant(record: dict[str, Any]):
    assert set(record["latency"]) == CONTESTANTS
    assert [point["rows_per_second"] for point in record["steady"]] == [20, 50, 100, 200, 400] * 2
    assert [shape["enterprises"] for shape in record["tenants"]] == [1, 200, 2_000, 20_000]
    assert set(record["burst"]) == {"dispatcher", "pgqueuer", "procrastinate", "one workflow per row"}
    assert set(record["idle"]) == CONTESTANTS
    assert set(record["producers"]) == {"bare", "off", "always", "adaptive"}
    assert all(min(rates) > 0 for rates in record["producers"].values())
    assert all(record["recovery"][when] > 0 for when in ("before", "after"))
    assert set(record["flood"]) == {"alone", "flood elsewhere", "flooded"}
    assert record["flood_requests"]["sent"] > record["flood_requests"]["200"] > 0
    assert record["machine"]["packages"]["novu-py"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_row_was_accepted_exactly_once_by_fake_novu(record: dict[str, Any]):
    assert len(record["ledger"]) == 4 + 2 + 4 + 4 + 4 + 1 + 1
    for block in record["ledger"]:
        assert block["accepted"] == block["effects"] == block["written"], block
        assert block["duplicates"] == 0, block


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_judged_number_has_a_target(record: dict[str, Any]):
    judged = {verdict["name"]: verdict for verdict in record["verdicts"]}
    assert len(judged) == 11 + 2 * 4 * 2 + 3
    assert all(verdict["target"] and verdict["met"] in (True, False) for verdict in judged.values())


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.subprocess.Process]:
    """The processes that are started."""
    start, started = asyncio.create_subprocess_exec, list[asyncio.subprocess.Process]()

    async def noted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    return started


async def test_flood_without_a_server_times_out_and_ends(
    children: list[asyncio.subprocess.Process], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flood, "START_TIMEOUT_SECONDS", 0.5)
    too_long = asyncio.timeout(20)
    with pytest.raises(TimeoutError):
        async with too_long, flood.run_flood(free_port(), 1, 0, {}):
            pass
    assert not too_long.expired()
    assert [child.returncode is not None for child in children] == [True]


async def test_flood_ends_when_the_measurement_fails(children: list[asyncio.subprocess.Process]):
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(RuntimeError, match="no row arrived"):
            async with flood.run_flood(server.sockets[0].getsockname()[1], 10, 0, {}):
                raise RuntimeError("no row arrived")
    assert [child.returncode is not None for child in children] == [True]
