"""With a wrong key rows wait as PENDING and spend no attempt, and are sent when the key is corrected."""

import pytest

from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = pytest.mark.slow


async def test_rows_wait_without_spending_attempts_while_the_breaker_is_open(stack: Stack):
    process = await stack.running(NOVU_SECRET_KEY="not-yet", DISPATCHER_SWEEP_INTERVAL="1s")
    rows = [await stack.notify(recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(3)])]

    async def handed_back() -> bool:
        return (
            "novu_gate_shut" in process.read_log()
            and await stack.status(rows[0]) == "PENDING"
            and await stack.value("select count(*) from dispatcher.delivery where lease_until is not null") == 0
        )

    await eventually(handed_back, f"rows handed back; {stack.log_tails()}", 5)
    rows += [await stack.notify() for _ in range(20)]
    await stack.burst(100)
    assert (await stack.counts()) == {"PENDING": 121}
    await stack.novu.add_environment("not-yet")
    assert await stack.final(*rows, within=45) == ["SENT"] * 21
    await stack.all_sent(121)
    refused = [request for request in await stack.novu.requests() if request.method == "POST" and request.status == 401]
    assert len(refused) == 3, "only calls that had left before the breaker tripped"
    summary = await stack.novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (123, 0)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    assert await stack.value("select count(*) from dispatcher.delivery where generation <> 1") == 0
    assert process.read_log().count("novu_gate_shut") == 1
