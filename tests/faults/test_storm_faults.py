"""Very many wake-ups, large rows and two-phase commits do not disturb NOTIFY."""

import time
from pathlib import Path

import psycopg
import pytest

from tests.faults.waits import effects_are_exactly, proven
from tests.support.stack import Process, Stack
from tests.support.waits import eventually


def memory(process: Process) -> int:
    """Return how many MiB the process holds."""
    words = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(words.split("VmRSS:")[1].split()[0]) // 1024


@pytest.mark.slow
async def test_f09_many_wake_ups_lose_nothing(stack: Stack):
    process = await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await proven(process, 1)
    assert await stack.final(await stack.notify()) == ["SENT"]
    before = memory(process)
    swept = await stack.value("select last_sweep_at from dispatcher.node")
    started = time.monotonic()
    await stack.rows("select pg_notify('dispatcher', i::text) from generate_series(1, 100000) i")
    assert await stack.final(await stack.notify(), within=20) == ["SENT"]
    print(f"received after {time.monotonic() - started:.1f} s; {memory(process) - before} MiB more")  # noqa: T201

    async def swept_again() -> bool:
        return await stack.value("select last_sweep_at > %s from dispatcher.node", swept)

    await eventually(swept_again, "a sweep after the storm", 10)
    assert memory(process) - before < 60
    assert "not_listening" not in process.read_log()
    assert await stack.value("select pg_notification_queue_usage()") < 0.01
    await effects_are_exactly(stack, 2)


async def test_f12_notify_carries_no_content_of_a_row(stack: Stack):
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as listener:
        await listener.execute("listen dispatcher")
        row = await stack.notify(name="x" * 100_000, payload='{"title": "%s"}' % ("y" * 200_000))
        received = [notify.payload async for notify in listener.notifies(timeout=5, stop_after=1)]
    assert received == [""]
    await stack.running()
    assert await stack.final(row) == ["SENT"]
    await effects_are_exactly(stack, 1)


async def test_f15_two_phase_commit_is_refused_or_sent_when_quiet(stack: Stack):
    workflow = await stack.workflow()
    name = stack.url.rsplit("/", 1)[1]
    await stack.rows("begin")
    await stack.notify(workflow=workflow)
    with pytest.raises(psycopg.errors.FeatureNotSupported):  # a NOTIFY cannot wait for the second phase
        await stack.rows(f"prepare transaction '{name}-loud'")
    await stack.rows("rollback")
    await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await stack.rows("begin")
    await stack.rows("set local dispatcher.quiet = on")
    quiet = await stack.notify(workflow=workflow)
    await stack.rows(f"prepare transaction '{name}-quiet'")
    assert await stack.rows("select from notify.ent_notification where id = %s", quiet) == []
    await stack.rows(f"commit prepared '{name}-quiet'")
    assert await stack.final(quiet, within=10) == ["SENT"]
    await effects_are_exactly(stack, 1)


async def test_f15_two_phase_commit_without_triggers_is_sent(stack: Stack):
    await stack.rows("alter table notify.ent_notification disable trigger dispatcher_insert")
    await stack.rows("alter table notify.ent_notification disable trigger dispatcher_update")
    stack.start(DISPATCHER_NOTIFY_MODE="off")
    workflow = await stack.workflow()
    name = stack.url.rsplit("/", 1)[1]
    await stack.rows("begin")
    row = await stack.notify(workflow=workflow)
    await stack.rows(f"prepare transaction '{name}'")
    await stack.rows(f"commit prepared '{name}'")
    assert await stack.final(row, within=15) == ["SENT"]
    await effects_are_exactly(stack, 1)
