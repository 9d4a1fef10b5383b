"""Limits of a process: memory, open files, an unread log, restarts, a shutdown that hangs, exit codes."""

import contextlib
import os
import resource
import shlex
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from dispatcher.devstack import temporal
from tests.faults.process_waits import ended
from tests.faults.waits import effects_are_exactly
from tests.support.stack import RUN, Process, Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


WITH_FAULT = (sys.executable, "-m", "tests.faults.run_with_fault")


LEASED = "select count(*) from dispatcher.delivery where lease_until is not null"


@pytest.mark.slow
async def test_f50_backlog_stays_under_the_memory_cap(stack: Stack):
    cap = ("prlimit", f"--data={300 << 20}")
    await stack.burst(5000, enterprises=3)
    process = await stack.running((*cap, *RUN))
    limit = resource.prlimit(process.popen.pid, resource.RLIMIT_DATA)
    await stack.all_sent(5000)
    assert limit == (300 << 20, 300 << 20)
    assert process.popen.poll() is None
    assert peak_megabytes(process) <= 250
    await effects_are_exactly(stack, 5000)


def peak_megabytes(process: Process) -> int:
    """Return the most memory that the process had."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


async def test_f211_payload_of_fifteen_megabytes_is_sent_if_the_setting_allows_it(stack: Stack):
    process = await stack.running(DISPATCHER_MAX_PAYLOAD="16MiB")
    fits, too_large = (f'{{"x": "{"marker" * count}"}}' for count in (2_500_000, 2_800_000))
    rows = [await stack.notify(payload=fits, recipients=[uuid4() for _ in range(4)]), await stack.notify()]
    refused = await stack.notify(payload=too_large)
    assert await stack.final(*rows, refused) == ["SENT", "SENT", "FAILED"]
    assert "the limit is 16777216 (DISPATCHER_MAX_PAYLOAD)" in (await stack.details(refused))["error"]
    await effects_are_exactly(stack, 5)
    assert peak_megabytes(process) < 400
    assert "markermarker" not in process.read_log()


async def test_f214_row_that_a_process_has_no_memory_to_read_ends_and_stops_no_other(stack: Stack):
    cap = ("prlimit", f"--data={200 << 20}")
    process = await stack.running((*cap, *RUN), DISPATCHER_MAX_PAYLOAD="16MiB", DISPATCHER_MAX_RUNS="1")
    async with stack.connection.transaction():  # one batch, with a neighbour on either side
        before = await stack.notify()
        culprit = await stack.notify(payload='{"x": [' + "[]," * 4_000_000 + "[]]}")
        after = await stack.notify()
    assert await stack.final(before, after) == ["SENT"] * 2
    assert await stack.final(culprit, within=60) == ["FAILED"]
    details = await stack.details(culprit)
    assert (details["dead_letter"], details["error"]) == (True, "the run ended without an answer from Novu")
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 2)


async def test_f53_sixty_four_open_files_are_enough(stack: Stack):
    process = await stack.running(("prlimit", "--nofile=64", *RUN), **QUICK)
    assert resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE) == (64, 64)
    await stack.burst(300)
    rows = [await stack.notify(recipients=[f"00000000-0000-0000-0000-{n:012}" for n in range(9)]) for _ in range(8)]
    assert await stack.final(*rows) == ["SENT"] * 8
    await stack.all_sent(308)
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 372)


async def test_f53_too_few_open_files_are_one_line(stack: Stack):
    process = stack.start(("prlimit", "--nofile=12", *RUN))
    assert await ended(process) not in (0, None)
    assert "Too many open files" in process.read_log()


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["stalls", "leaves"])
async def test_f54_unread_log_loses_lines_and_no_rows(stack: Stack, reader: str):
    out, into = os.pipe()
    filled = fill(into) if reader == "stalls" else 0
    process = stack.start(("sh", "-c", f"exec {shlex.join(RUN)} >/proc/{os.getpid()}/fd/{into}"), **QUICK)

    async def hears() -> bool:
        return await stack.listening() == 1

    await eventually(hears, "a listener")
    os.close(into)
    if reader == "leaves":
        os.close(out)
    rows = [await stack.notify() for _ in range(3)]
    await stack.burst(100)
    assert await stack.final(*rows, within=15) == ["SENT"] * 3
    await stack.all_sent(103)
    assert await process.stop() == 0
    if reader == "stalls":
        assert len(os.read(out, 1 << 20)) == filled, "not a byte more fitted"
        os.close(out)
    await effects_are_exactly(stack, 103)


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
async def test_f55_frequent_restarts_make_progress(stack: Stack):
    await stack.novu.configure(latency_ms=50)
    await stack.burst(1500)
    done = 0
    for life in range(4):
        process = await stack.running(**QUICK)
        before = done

        async def progress(before: int = before) -> bool:
            return (await stack.counts()).get("SENT", 0) > before

        await eventually(progress, f"progress in life {life}")
        assert await process.stop() == 0
        done = (await stack.counts()).get("SENT", 0)
        assert await stack.value(LEASED) == 0
        if done == 1500:
            break
    await stack.running(**QUICK)
    await stack.all_sent(1500)
    await effects_are_exactly(stack, 1500)


async def test_f56_hanging_shutdown_is_ended_by_the_watchdog(stack: Stack):
    process = await stack.running((*WITH_FAULT, "endless-shutdown", "3"), **QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    begun = time.monotonic()
    process.popen.terminate()
    assert await ended(process) == 0
    assert 2.9 < time.monotonic() - begun < 15
    assert '"stopped_by_watchdog"' in process.read_log()


@pytest.mark.slow
async def test_f57_exit_codes_without_servers(stack: Stack, tmp_path_factory: pytest.TempPathFactory):
    with temporal.run_temporal(tmp_path_factory.mktemp("temporal")) as server:
        process = await stack.running(TEMPORAL_ADDRESS=server.address, **QUICK)
        assert await stack.final(await stack.notify()) == ["SENT"]
    assert await process.stop() == 0
    assert (
        '"stopped"' in process.read_log()
    )  # perhaps not last: the SDK's engine, which lost its server, logs by itself
    for refused in [stack.start(TEMPORAL_ADDRESS="127.0.0.1:1") for _ in range(3)]:
        assert await ended(refused) == 3
        assert refused.read_log().splitlines()[-1].startswith("dispatcher: TEMPORAL_ADDRESS")
