"""`dispatcher run --role`: claiming and sending in processes of their own."""

import re

from tests.support.stack import RUN, Process, Stack
from tests.support.waits import eventually

DISPATCH, WORKER = (*RUN, "--role", "dispatch"), (*RUN, "--role", "worker")


def events(process: Process, name: str) -> int:
    """Return how often a process logged an event."""
    return len(re.findall(f'"event": "{name}"', process.read_log()))


async def swept(stack: Stack) -> None:
    """Wait for another sweep."""
    last = "select max(last_sweep_at) from dispatcher.node"
    before = await stack.value(last)

    async def another() -> bool:
        return await stack.value(last) != before

    await eventually(another, "another sweep")


async def test_dispatch_and_worker_deliver_together(stack: Stack):
    dispatch, worker = await stack.running(DISPATCH, NOVU_SECRET_KEY=""), await stack.running(WORKER)
    for _ in range(3):
        assert await stack.final(await stack.notify()) == ["SENT"]
    await stack.burst(300, enterprises=3)
    await stack.all_sent(303)
    assert (events(dispatch, "delivered"), events(worker, "claimed")) == (0, 0)
    assert events(dispatch, "claimed") >= 4

    async def all_told() -> bool:  # a row is SENT a moment before that is logged
        return events(worker, "delivered") >= 3 + 3  # three alone, and a batch per enterprise at least

    await eventually(all_told, "a line for each delivery")
    assert {row[0] for row in await stack.rows("select role from dispatcher.node")} == {"dispatch", "worker"}
    await stack.quiet()
    assert [await dispatch.stop(), await worker.stop()] == [0, 0]
    assert await stack.rows("select from dispatcher.node") == []


async def test_rows_stay_pending_without_a_worker_and_the_outage_is_logged(stack: Stack):
    dispatch = await stack.running(DISPATCH, DISPATCHER_SWEEP_INTERVAL="1s")
    one = await stack.notify()
    for _ in range(3):  # its own word in the table of nodes is no worker's
        await swept(stack)
    async with await dispatch.http() as client:

        async def named() -> bool:
            return (await client.get("/readyz")).json().get("broken") == ["novu"]

        await eventually(named, "a readiness that names novu")
        assert "role worker" in (await client.get("/status")).json()["broken"]["novu"]["reason"]
        assert await stack.status(one) == "PENDING"
        assert events(dispatch, "claimed") == 0
        await stack.running(WORKER)
        assert await stack.final(one) == ["SENT"]

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready, "a dispatch that is ready")


async def test_worker_refused_by_novu_gets_no_more_rows(stack: Stack):
    dispatch = await stack.running(DISPATCH, DISPATCHER_SWEEP_INTERVAL="1s")
    outcast = await stack.running(WORKER, NOVU_SECRET_KEY="wrong")
    one = await stack.notify()

    async def shut() -> bool:
        return "rows wait as PENDING" in dispatch.read_log().partition("workers_found")[2]

    await eventually(shut, "a dispatch that noticed")
    assert await stack.status(one) == "PENDING"
    before = events(dispatch, "claimed")
    two = await stack.notify()
    for _ in range(2):
        await swept(stack)
    assert (await stack.status(two), events(dispatch, "claimed")) == ("PENDING", before)
    assert await outcast.stop() == 0
    await stack.running(WORKER)
    assert await stack.final(one, two) == ["SENT", "SENT"]
