"""A short chaos run with a fixed seed, and what long ones have found."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.waits import caught
from tests.support.proxy import FaultProxy
from tests.support.repository import ROOT
from tests.support.stack import Stack
from tests.support.waits import eventually


@pytest.mark.slow
async def test_short_chaos_run_violates_no_invariant(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--seed",
        "846",
        "--rows",
        "1000",
        "--faults",
        "12",
        "--pace",
        "0.3-1",
        "--dispatchers",
        "2",
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--results",
        str(tmp_path),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    words, _ = await process.communicate()
    assert process.returncode == 0, words.decode()
    assert b"lost 0, doubled 0, wrong 0, broken invariants 0, other findings 0" in words


async def test_f25_session_lost_during_the_start_is_one_line(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    to_postgres.trap(b"to_regclass('dispatcher.'")
    process = stack.start(DATABASE_URL=proxied_url, DISPATCHER_LISTEN_DATABASE_URL=stack.url)
    await eventually(lambda: caught(to_postgres), "the question on the wire")
    to_postgres.reset()
    await to_postgres.heal()

    async def ended() -> bool:
        return process.popen.poll() is not None

    await eventually(ended, "the end of the process")
    assert process.popen.returncode == 3
    assert "PostgreSQL closed the connection during the start" in process.read_log()
    assert "Traceback" not in process.read_log()
