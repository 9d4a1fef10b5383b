"""A row whose reading kills the process: its neighbours are sent, and it ends after three deaths of its own."""

import sys

import pytest

from tests.faults.waits import effects_are_exactly
from tests.support.stack import Process, Stack
from tests.support.waits import eventually

DEADLY = (sys.executable, "-m", "tests.faults.run_with_fault", "deadly-row", "2")
DEAD = "three tries ended with the death of the process that read it"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def finished_with_restarts(stack: Stack, within: float) -> int:
    """Start the process again whenever it has died, as a platform does, until all rows are final. Return its deaths."""
    processes: list[Process] = []

    async def final() -> bool:
        if not processes or processes[-1].popen.poll() is not None:
            processes.append(stack.start(DEADLY))
        counts = await stack.counts()
        return not counts.keys() & {"PENDING", "PROCESSING"}

    await eventually(final, f"every row final; {stack.log_tails()}", within)
    assert processes[-1].popen.poll() is None
    return len(processes) - 1


@pytest.mark.parametrize("count", [1, 100])
async def test_f176_row_that_kills_each_process_ends_and_its_neighbours_are_sent(stack: Stack, count: int):
    await stack.burst(count)
    culprit = await stack.value(
        'update notify.ent_notification set payload = \'{"x": "deadly"}\''
        " where id = (select min(id) + count(*) / 2 from notify.ent_notification) returning id"
    )
    deaths = await finished_with_restarts(stack, within=90)
    assert deaths == 4, "the first accuses all rows that were read with it"
    assert await stack.counts() == ({"FAILED": 1, "SENT": count - 1} if count > 1 else {"FAILED": 1})
    details = await stack.details(culprit)
    assert (details["dead_letter"], details["error"]) == (True, DEAD)
    await effects_are_exactly(stack, count - 1)
