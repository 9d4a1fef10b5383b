"""Faults of the process: killed, paused, blocked, short of files or memory, unread, stopped at bad moments."""

import contextlib
import os
import resource
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from facts import caught, effects_are_exactly
from house import RUN, House, Process, eventually
from proxy import FaultProxy

from dispatcher.devstack import temporal

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
ALTERED = str(Path(__file__).parent.with_name("altered.py"))
ON_THE_WIRE = "select count(*) from dispatcher.recipient where state = 'sending'"
SETTLE = b"-- Writes what the calls taught us"
HELD = "select count(*) from dispatcher.delivery where lease_until is not null"


async def told(process: Process, word: str, within: float = 30) -> None:
    """Wait until the process has said a word."""

    async def said() -> bool:
        return word in process.words()

    await eventually(said, f"the word {word}; log:\n{process.words()[-2000:]}", within)


async def ended(process: Process, within: float = 25) -> int:
    """Wait for the end of the process; return its exit code."""

    async def gone() -> bool:
        return process.popen.poll() is not None

    await eventually(gone, f"the end of the process; log:\n{process.words()[-2000:]}", within)
    assert process.popen.returncode is not None
    return process.popen.returncode


@pytest.mark.slow
async def test_f46_one_of_two_killed_again_and_again(house: House):
    await house.novu.configure(latency_ms=300)
    pair = [await house.running(**QUICK), await house.running(**QUICK)]
    for _ in range(3):
        await house.burst(150)

        async def holder() -> Process | None:
            [holds, other] = [await house.value(f"{HELD} and lease_owner like %s", f"%-{p.popen.pid}-%") for p in pair]
            return None if holds == other == 0 else pair[0] if holds else pair[1]

        doomed = await eventually(holder, "rows in the hands of one of them")
        doomed.kill()
        pair.remove(doomed)
        pair.append(await house.running(**QUICK))
    await house.all_sent(450)
    await effects_are_exactly(house, 450)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["import", "connect", "started"])
async def test_f47_sigterm_while_it_starts(house: House, moment: str):
    row = await house.notify()
    process = house.start(**QUICK)
    if moment == "connect":

        async def connected() -> bool:
            return await house.value(
                "select count(*) > 0 from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

        await eventually(connected, "a first connection")
    elif moment == "started":
        await told(process, '"started"')
    process.popen.terminate()
    # Before our handler is there, the signal's own meaning holds. The watchdog would come after 24 s.
    assert await ended(process, within=15) in ((0,) if moment == "started" else (0, -signal.SIGTERM))
    assert await house.value(HELD) == 0
    await house.running(**QUICK)
    assert await house.final(row) == ["SENT"]
    await effects_are_exactly(house, 1)


async def test_f47_sigterm_twice(house: House):
    await house.novu.configure(latency_ms=1500)
    process = await house.running(**QUICK)
    await house.burst(20)
    await eventually(lambda: house.value(ON_THE_WIRE), "calls on the wire")
    process.popen.terminate()
    await told(process, '"stopping"')
    process.popen.terminate()
    assert await ended(process) == 0
    assert await house.value(HELD) == 0
    await house.novu.configure(latency_ms=0)
    await house.running(**QUICK)
    await house.all_sent(20)
    await effects_are_exactly(house, 20)


@pytest.mark.slow
async def test_f47_sigterm_while_it_reconnects(house: House, to_postgres: FaultProxy, proxied_url: str):
    process = await house.running(DATABASE_URL=proxied_url, **QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    await to_postgres.refuse()
    to_postgres.reset()
    await told(process, '"database_unreachable"')
    begun = time.monotonic()
    process.popen.terminate()
    assert await ended(process) == 0
    assert time.monotonic() - begun < 25
    assert to_postgres.counts["reset"] > 0


@pytest.mark.slow
async def test_f48_a_process_paused_past_its_lease(house: House, to_postgres: FaultProxy, proxied_url: str):
    await house.novu.configure(latency_ms=1000)
    # On a queue of its own: the server goes on giving tasks to a poller that stands still, until its poll ends.
    paused = await house.running(DATABASE_URL=proxied_url, TEMPORAL_TASK_QUEUE=f"{house.queue}-paused", **QUICK)
    row = await house.notify()

    async def arrived() -> bool:
        return bool((await house.novu.state())["idempotency_records"])

    await eventually(arrived, "a call that is worked on")
    os.kill(paused.popen.pid, signal.SIGSTOP)
    try:
        await house.running(**QUICK)
        assert await house.final(row, within=60) == ["SENT"]
        written = await house.details(row)
        to_postgres.trap(SETTLE)
    finally:
        os.kill(paused.popen.pid, signal.SIGCONT)
    # It goes on where it stood and writes its outcome down; the fence lets nothing through.
    await eventually(lambda: caught(to_postgres), "the paused process to settle")
    await to_postgres.heal()
    assert await house.final(await house.notify()) == ["SENT"]
    assert await house.details(row) == written
    assert await house.value("select count(*) from oracle.audit where new_status = 'SENT' and id = %s", row) == 1
    await effects_are_exactly(house, 2)


@pytest.mark.slow
async def test_f49_a_blocked_loop(house: House):
    blocked = await house.running((sys.executable, ALTERED, "blocked-loop", "9"), **QUICK)
    await house.running((sys.executable, ALTERED, "short-heartbeat", "2"), **QUICK)
    workflow = await house.workflow()
    async with house.connection.transaction():
        for _ in range(24):
            await house.notify(workflow=workflow)
    await told(blocked, "BLOCKED")
    assert "UNBLOCKED" not in blocked.words()
    more = await house.notify()
    assert await house.final(more, within=20) == ["SENT"]
    await house.all_sent(25)
    await told(blocked, "UNBLOCKED")
    assert await house.final(await house.notify(), within=20) == ["SENT"]
    await effects_are_exactly(house, 26)


async def test_f49_sigterm_while_the_loop_is_blocked(house: House):
    process = await house.running((sys.executable, ALTERED, "blocked-loop", "4"), **QUICK)
    row = await house.notify()
    await told(process, "BLOCKED")
    process.popen.terminate()
    assert await ended(process) == 0
    await house.running(**QUICK)
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 1)


@pytest.mark.slow
async def test_f50_a_backlog_under_a_memory_cap(house: House):
    cap = ("prlimit", f"--data={300 << 20}")
    await house.burst(5000, enterprises=3)
    process = await house.running((*cap, *RUN))
    limit = resource.prlimit(process.popen.pid, resource.RLIMIT_DATA)
    await house.all_sent(5000)
    assert limit == (300 << 20, 300 << 20)
    assert process.popen.poll() is None
    assert peak_megabytes(process) <= 250
    await effects_are_exactly(house, 5000)


def peak_megabytes(process: Process) -> int:
    """Return the most memory that the process had."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.mark.slow
async def test_f51_one_two_and_five_dispatchers(house: House):
    expected = 0
    for more in (1, 1, 3):
        for _ in range(more):
            house.start()

        async def all_listen(count: int = len(house.processes)) -> bool:
            return await house.listening() == count

        await eventually(all_listen, "every listener")
        await house.burst(300, enterprises=3)
        await house.notify()
        expected += 301
        await house.all_sent(expected)
    assert await house.value("select max(attempts) from dispatcher.delivery") == 1
    assert await house.value("select count(*) from oracle.audit where new_status = 'PROCESSING'") == expected
    await effects_are_exactly(house, expected)


@pytest.mark.slow
async def test_f51_split_brain(house: House, to_postgres: FaultProxy, to_temporal: FaultProxy, proxied_url: str):
    """One sees PostgreSQL only, one sees Temporal only; a third, who sees both, moves everything on."""
    blind = await house.running(DATABASE_URL=proxied_url, **QUICK)
    mute = await house.running(TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}", **QUICK)
    for proxy in (to_postgres, to_temporal):
        await proxy.refuse()
        proxy.reset()
    rows = [await house.notify() for _ in range(5)]
    await told(mute, '"start_failed"')
    await told(blind, '"database_unreachable"')
    assert await house.value("select count(*) from notify.ent_notification where notification_status = 'SENT'") < 5
    await house.running(**QUICK)
    assert await house.final(*rows, within=40) == ["SENT"] * 5
    assert (blind.popen.poll(), mute.popen.poll()) == (None, None)
    for proxy in (to_postgres, to_temporal):
        await proxy.heal()
        await proxy.open()
    assert await house.final(await house.notify(), within=40) == ["SENT"]
    await effects_are_exactly(house, 6)


async def test_f53_sixty_four_files(house: House):
    process = await house.running(("prlimit", "--nofile=64", *RUN), **QUICK)
    assert resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE) == (64, 64)
    await house.burst(300)
    rows = [await house.notify(recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(9)]) for _ in range(8)]
    assert await house.final(*rows) == ["SENT"] * 8
    await house.all_sent(308)
    assert process.popen.poll() is None
    await effects_are_exactly(house, 372)


async def test_f53_too_few_files_to_start(house: House):
    process = house.start(("prlimit", "--nofile=12", *RUN))
    assert await ended(process) not in (0, None)
    assert "Too many open files" in process.words()


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["stalls", "leaves"])
async def test_f54_nobody_reads_the_log(house: House, reader: str):
    out, into = os.pipe()
    filled = fill(into) if reader == "stalls" else 0
    process = house.start(("sh", "-c", f"exec {shlex.join(RUN)} >/proc/{os.getpid()}/fd/{into}"), **QUICK)

    async def hears() -> bool:
        return await house.listening() == 1

    await eventually(hears, "a listener")
    os.close(into)
    if reader == "leaves":
        os.close(out)
    rows = [await house.notify() for _ in range(3)]
    await house.burst(100)
    assert await house.final(*rows, within=15) == ["SENT"] * 3
    await house.all_sent(103)
    assert await process.stop() == 0
    if reader == "stalls":
        assert len(os.read(out, 1 << 20)) == filled, "not a byte more fitted"
        os.close(out)
    await effects_are_exactly(house, 103)


def fill(pipe: int) -> int:
    """Fill a pipe to the brim; return how much it took."""
    os.set_blocking(pipe, False)
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(pipe, b"." * 4096)
    os.set_blocking(pipe, True)
    return total


@pytest.mark.slow
async def test_f55_restarted_every_few_seconds(house: House):
    await house.novu.configure(latency_ms=50)
    await house.burst(1500)
    done = 0
    for life in range(4):
        process = await house.running(**QUICK)
        before = done

        async def progress(before: int = before) -> bool:
            return (await house.counts()).get("SENT", 0) > before

        await eventually(progress, f"progress in life {life}")
        assert await process.stop() == 0
        done = (await house.counts()).get("SENT", 0)
        assert await house.value(HELD) == 0
        if done == 1500:
            break
    await house.running(**QUICK)
    await house.all_sent(1500)
    await effects_are_exactly(house, 1500)


async def test_f56_a_shutdown_that_never_returns(house: House):
    process = await house.running((sys.executable, ALTERED, "endless-shutdown", "3"), **QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    begun = time.monotonic()
    process.popen.terminate()
    assert await ended(process) == 0
    assert 2.9 < time.monotonic() - begun < 15
    assert '"stopped_by_watchdog"' in process.words()


@pytest.mark.slow
async def test_f57_exit_codes_when_servers_are_gone(house: House, tmp_path_factory: pytest.TempPathFactory):
    with temporal.running(tmp_path_factory.mktemp("temporal")) as server:
        process = await house.running(TEMPORAL_ADDRESS=server.address, **QUICK)
        assert await house.final(await house.notify()) == ["SENT"]
    assert await process.stop() == 0
    assert '"stopped"' in process.words()  # perhaps not last: the SDK's engine, which lost its server, logs by itself
    for refused in [house.start(TEMPORAL_ADDRESS="127.0.0.1:1") for _ in range(3)]:
        assert await ended(refused) == 3
        assert refused.words().splitlines()[-1].startswith("dispatcher: TEMPORAL_ADDRESS")
