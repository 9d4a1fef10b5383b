"""Calls that Novu answers too late or never: one open connection for a recipient at most, and one effect.

All times are a tenth of the real ones: a call is closed after 4 s instead of 40.
"""

import sys
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.faults.waits import effects_are_exactly, posts
from tests.support.invariants import find_violations, load_oracle
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SHORT_CALLS = (sys.executable, "-m", "tests.faults.run_with_fault", "short-calls", "4")
NEVER = 0.0
ANSWERED_AFTER = (2.5, 3.3, 4.5, 12.0, NEVER)
"""Seconds: two within the limit of a call, two after it; the last call is neither executed nor answered."""


async def slow_rows(stack: Stack, recipients: int, *, batch_queue: bool) -> list[int]:
    """Insert rows whose call is answered after each of the times. Their first try may fail before, at once, so that
    the slow call is made on the batch queue."""
    rows: list[int] = []
    for seconds in ANSWERED_AFTER:
        people = [uuid4() for _ in range(recipients)]
        if batch_queue:
            await stack.novu.add_fault("status", status=503, recipient=str(people[0]), times=1)
        await slow_call_for(stack, people[0], seconds)
        rows.append(await stack.notify(recipients=people))
    return rows


async def slow_call_for(stack: Stack, recipient: UUID, seconds: float) -> None:
    kind: dict[str, Any] = {"kind": "delay", "seconds": seconds} if seconds else {"kind": "hang"}
    await stack.novu.add_fault(recipient=str(recipient), times=1, **kind)


@pytest.mark.parametrize("idempotency", [True, False])
async def test_f175_call_is_open_once_and_has_one_effect_however_late_the_answer(
    stack: Stack,
    idempotency: bool,  # noqa: FBT001
):
    await stack.novu.configure(idempotency=idempotency)
    # Each row is a workflow of its own, so that it meets its own faults alone.
    await stack.running(SHORT_CALLS, DISPATCHER_LOOKUP_TIME="15s", DISPATCHER_BATCH_SIZE="1")
    rows = [
        row
        for recipients in (1, 12)
        for batch_queue in (False, True)
        for row in await slow_rows(stack, recipients, batch_queue=batch_queue)
    ]
    assert await stack.final(*rows, within=75) == ["SENT"] * 20
    await eventually(lambda: all_answered(stack), "the answers that nobody waits for", 30)
    assert all(await stack.novu.fault_counts()), "every fault happened"
    await effects_are_exactly(stack, 5 * (1 + 1 + 12 + 12))
    late = [call for call in await posts(stack) if call.fault in ("delay", "hang")]
    assert len(late) == 20
    assert all(call.ended_at - call.started_at < 5 for call in late), "a connection stayed open beyond the limit"
    assert {len(call.subscribers) for call in late} == {1, 12}
    await load_oracle(stack.connection, stack.novu)
    assert await find_violations(stack.connection) == {}


async def all_answered(stack: Stack) -> bool:
    """Whether Novu has executed every call, also those whose connection is closed."""
    return sum(call.fault in ("delay", "hang") for call in await posts(stack)) == 20
