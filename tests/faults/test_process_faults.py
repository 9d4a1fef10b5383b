"""Faults of the process: killed, paused, blocked, short of files or memory, unread, stopped at bad moments."""

import os
import signal
import sys
import time

import pytest

from tests.faults.process_waits import ended
from tests.faults.waits import caught, effects_are_exactly
from tests.support.proxy import FaultProxy
from tests.support.stack import Process, Stack
from tests.support.statements import opening
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


WITH_FAULT = (sys.executable, "-m", "tests.faults.run_with_fault")


ON_THE_WIRE = "select count(*) from dispatcher.recipient where state = 'sending'"


SETTLE = opening("settle").encode()


LEASED = "select count(*) from dispatcher.delivery where lease_until is not null"


async def log_has(process: Process, word: str, within: float = 30) -> None:
    """Wait until the process has said a word."""

    async def said() -> bool:
        return word in process.read_log()

    await eventually(said, f"the word {word}; log:\n{process.read_log()[-2000:]}", within)


@pytest.mark.slow
async def test_f46_repeated_kills_of_one_of_two_lose_nothing(stack: Stack):
    await stack.novu.configure(latency_ms=300)
    pair = [await stack.running(**QUICK), await stack.running(**QUICK)]
    for _ in range(3):
        await stack.burst(150)

        async def holder() -> Process | None:
            [holds, other] = [
                await stack.value(f"{LEASED} and lease_owner like %s", f"%-{p.popen.pid}-%") for p in pair
            ]
            return None if holds == other == 0 else pair[0] if holds else pair[1]

        doomed = await eventually(holder, "rows in the hands of one of them")
        doomed.kill()
        pair.remove(doomed)
        pair.append(await stack.running(**QUICK))
    await stack.all_sent(450)
    await effects_are_exactly(stack, 450)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["import", "connect", "started"])
async def test_f47_sigterm_during_the_start_exits_0(stack: Stack, moment: str):
    row = await stack.notify()
    process = stack.start(**QUICK)
    if moment == "connect":

        async def connected() -> bool:
            return await stack.value(
                "select count(*) > 0 from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

        await eventually(connected, "a first connection")
    elif moment == "started":
        await log_has(process, '"started"')
    process.popen.terminate()
    # Before our handler is there, the signal's own meaning holds. The watchdog would come after 24 s.
    assert await ended(process, within=15) in ((0,) if moment == "started" else (0, -signal.SIGTERM))
    assert await stack.value(LEASED) == 0
    await stack.running(**QUICK)
    assert await stack.final(row) == ["SENT"]
    await effects_are_exactly(stack, 1)


async def test_f47_second_sigterm_exits_0(stack: Stack):
    await stack.novu.configure(latency_ms=1500)
    process = await stack.running(**QUICK)
    await stack.burst(20)
    await eventually(lambda: stack.value(ON_THE_WIRE), "calls on the wire")
    process.popen.terminate()
    await log_has(process, '"stopping"')
    process.popen.terminate()
    assert await ended(process) == 0
    assert await stack.value(LEASED) == 0
    await stack.novu.configure(latency_ms=0)
    await stack.running(**QUICK)
    await stack.all_sent(20)
    await effects_are_exactly(stack, 20)


@pytest.mark.slow
async def test_f47_sigterm_during_a_reconnect_exits_0(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    process = await stack.running(DATABASE_URL=proxied_url, **QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    await to_postgres.refuse()
    to_postgres.reset()
    await log_has(process, '"database_unreachable"')
    begun = time.monotonic()
    process.popen.terminate()
    assert await ended(process) == 0
    assert time.monotonic() - begun < 25
    assert to_postgres.counts["reset"] > 0


@pytest.mark.slow
async def test_f48_process_paused_past_its_lease_changes_nothing(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str
):
    await stack.novu.configure(latency_ms=1000)
    # On a queue of its own: the server goes on giving tasks to a poller that stands still, until its poll ends.
    paused = await stack.running(DATABASE_URL=proxied_url, TEMPORAL_TASK_QUEUE=f"{stack.queue}-paused", **QUICK)
    row = await stack.notify()

    async def arrived() -> bool:
        return bool((await stack.novu.state())["idempotency_records"])

    await eventually(arrived, "a call that is worked on")
    os.kill(paused.popen.pid, signal.SIGSTOP)
    try:
        await stack.running(**QUICK)
        assert await stack.final(row, within=60) == ["SENT"]
        written = await stack.details(row)
        to_postgres.trap(SETTLE)
    finally:
        os.kill(paused.popen.pid, signal.SIGCONT)
    # It goes on where it stood and writes its outcome down; the fence lets nothing through.
    await eventually(lambda: caught(to_postgres), "the paused process to settle")
    await to_postgres.heal()
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await stack.details(row) == written
    assert await stack.value("select count(*) from oracle.audit where new_status = 'SENT' and id = %s", row) == 1
    await effects_are_exactly(stack, 2)


@pytest.mark.slow
async def test_f49_blocked_event_loop_has_one_effect(stack: Stack):
    blocked = await stack.running((*WITH_FAULT, "blocked-loop", "12"), **QUICK)
    workflow = await stack.workflow()
    async with stack.connection.transaction():
        for _ in range(24):
            await stack.notify(workflow=workflow)
    await log_has(blocked, "BLOCKED")
    # Only now, because the rows share a workflow, which runs in the process that claims them.
    await stack.running((*WITH_FAULT, "short-heartbeat", "2"), **QUICK)
    assert "UNBLOCKED" not in blocked.read_log()
    more = await stack.notify()
    assert await stack.final(more, within=20) == ["SENT"]
    await stack.all_sent(25)
    await log_has(blocked, "UNBLOCKED")
    assert await stack.final(await stack.notify(), within=20) == ["SENT"]
    await effects_are_exactly(stack, 26)


async def test_f49_sigterm_during_a_blocked_loop_exits_0(stack: Stack):
    process = await stack.running((*WITH_FAULT, "blocked-loop", "4"), **QUICK)
    row = await stack.notify()
    await log_has(process, "BLOCKED")
    process.popen.terminate()
    assert await ended(process) == 0
    await stack.running(**QUICK)
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
async def test_f51_one_two_and_five_dispatchers_claim_each_row_once(stack: Stack):
    expected = 0
    for more in (1, 1, 3):
        for _ in range(more):
            stack.start()

        async def all_listen(count: int = len(stack.processes)) -> bool:
            return await stack.listening() == count

        await eventually(all_listen, "every listener")
        await stack.burst(300, enterprises=3)
        await stack.notify()
        expected += 301
        await stack.all_sent(expected)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    assert await stack.value("select count(*) from oracle.audit where new_status = 'PROCESSING'") == expected
    await effects_are_exactly(stack, expected)


@pytest.mark.slow
async def test_f51_split_brain_sends_each_row_once(
    stack: Stack, to_postgres: FaultProxy, to_temporal: FaultProxy, proxied_url: str
):
    """One sees PostgreSQL only, one sees Temporal only; a third, who sees both, moves everything on."""
    blind = await stack.running(DATABASE_URL=proxied_url, **QUICK)
    mute = await stack.running(TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}", **QUICK)
    for proxy in (to_postgres, to_temporal):
        await proxy.refuse()
        proxy.reset()
    rows = [await stack.notify() for _ in range(5)]
    await log_has(mute, '"start_failed"')
    await log_has(blind, '"database_unreachable"')
    assert await stack.value("select count(*) from notify.ent_notification where notification_status = 'SENT'") < 5
    await stack.running(**QUICK)
    assert await stack.final(*rows, within=40) == ["SENT"] * 5
    assert (blind.popen.poll(), mute.popen.poll()) == (None, None)
    for proxy in (to_postgres, to_temporal):
        await proxy.heal()
        await proxy.open()
    assert await stack.final(await stack.notify(), within=40) == ["SENT"]
    await effects_are_exactly(stack, 6)
