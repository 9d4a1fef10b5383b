"""No short command dies while it leaves: Temporal's native part aborts now and then in the interpreter's teardown.

`EXIT_RUNS=200 pytest tests/e2e/test_short_commands.py` looks longer.
"""

import os
import sys
from collections import Counter

import anyio
import pytest

from tests.support.stack import Stack, as_run_role

RUNS = int(os.environ.get("EXIT_RUNS", "60"))
AT_A_TIME = 4


ASK = """
import os, sys
import anyio
import dispatcher.cli
from dispatcher.temporal import client
from dispatcher.__main__ import main

async def ask():
    await client.connect_to_namespace(dict(os.environ), create_namespace=False)
    print("{}")

@dispatcher.cli.app.command("ask")
def command():
    anyio.run(ask)

sys.argv = ["dispatcher", "ask"]
main()
"""
"""A command whose last act is a question to Temporal, which is when a teardown goes wrong."""
PROGRAMS = {"status": ["-m", "dispatcher", "status", "--json"], "ask": ["-c", ASK]}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", PROGRAMS)
async def test_short_commands_never_end_abnormally(stack: Stack, program: str):
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": as_run_role(stack.url),
        "TEMPORAL_ADDRESS": stack.temporal_address,
    }
    codes = Counter[int]()
    limiter = anyio.CapacityLimiter(AT_A_TIME)

    async def once() -> None:
        async with limiter:
            command = [sys.executable, *PROGRAMS[program]]
            done = await anyio.run_process(command, env=environment, cwd=stack.folder, check=False)
            assert done.stdout.startswith(b"{"), done.stderr
            codes[done.returncode] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(RUNS):
            tasks.start_soon(once)
    assert codes == {0: RUNS}
