"""No short command dies while it leaves: Temporal's native part aborts now and then in the interpreter's teardown.

`EXIT_RUNS=200 pytest tests/e2e/test_exits.py` looks longer.
"""

import os
import sys
from collections import Counter

import anyio
import pytest
from house import House, as_run_role

RUNS = int(os.environ.get("EXIT_RUNS", "60"))
AT_A_TIME = 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["status", "sweep"])
async def test_short_commands_never_end_abnormally(house: House, command: str):
    """`status` reads the database; `sweep` has a Temporal client, and a rescue to ask it about."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": as_run_role(house.url),
        "TEMPORAL_ADDRESS": house.temporal_address,
        "TEMPORAL_TASK_QUEUE": house.queue,
    }
    codes = Counter[int]()
    limiter = anyio.CapacityLimiter(AT_A_TIME)

    async def once() -> None:
        async with limiter:
            program = [sys.executable, "-m", "dispatcher", command, "--json"]
            done = await anyio.run_process(program, env=environment, cwd=house.folder, check=False)
            assert done.stdout.startswith(b"{"), done.stderr
            codes[done.returncode] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(RUNS):
            tasks.start_soon(once)
    assert codes == {0: RUNS}
