"""Faults of the network below TCP, and of names: dropped packets, little bandwidth, addresses without a server."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.waits import effects_are_exactly, noticed, proven
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
LONGEST = 90
TO, FROM = "--dport", "--sport"
"""Which packets vanish: those to the port, those from it."""


@contextmanager
def vanishing(port: int, *ways: str) -> Generator[list[str]]:
    """Let packets of one port of loopback vanish for the block, and no longer than `LONGEST` even if we are killed."""
    iptables = shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin")
    if iptables is None:
        pytest.fail("packets cannot be dropped: apt-get install iptables, and run as root", pytrace=False)
    rules = [f"INPUT -i lo -p tcp {way} {port} -j DROP" for way in ways]
    remove = "; ".join(f"{iptables} -w -D {rule}" for rule in rules)
    safety = subprocess.Popen(["sh", "-c", f"sleep {LONGEST}; {remove}"], stderr=subprocess.DEVNULL)
    try:
        for rule in rules:
            done = subprocess.run(
                [iptables, "-w", "-I", *shlex.split(rule)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.fail(f"packets cannot be dropped, run as root: {done.stderr}", pytrace=False)
        yield [iptables, *rules]
    finally:
        safety.kill()
        safety.wait()
        subprocess.run(["sh", "-c", remove], stderr=subprocess.DEVNULL, check=False)


def vanished(rules: list[str]) -> int:
    """Return how many packets were dropped so far by these rules."""
    listing = subprocess.run([rules[0], "-w", "-nvxL", "INPUT"], capture_output=True, text=True, check=True).stdout
    port = shlex.split(rules[1])[6]
    return sum(int(line.split()[0]) for line in listing.splitlines() if line.rstrip().endswith(f"pt:{port}"))


@pytest.mark.slow
@pytest.mark.parametrize("ways", [(TO, FROM), (FROM,)], ids=["F03 both ways", "F43 answers only"])
async def test_f03_f43_dropped_listener_packets_are_detected(
    stack: Stack, to_postgres: FaultProxy, proxied_url: str, ways: tuple[str, ...]
):
    process = await stack.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, DISPATCHER_SWEEP_INTERVAL="60s")
    await proven(process, 1)
    started = time.monotonic()
    with vanishing(to_postgres.port, *ways) as rules:
        await noticed(process)
        print(f"noticed within {time.monotonic() - started:.1f} s")  # noqa: T201
        assert await stack.final(await stack.notify(), within=5) == ["SENT"]
        assert vanished(rules) > 0
    await proven(process, 2, within=30)
    assert await stack.final(await stack.notify(), within=5) == ["SENT"]
    await effects_are_exactly(stack, 2)


@pytest.mark.slow
async def test_f03_dropped_postgres_packets_are_survived(stack: Stack, to_postgres: FaultProxy, proxied_url: str):
    staying, going = (stack.start(DATABASE_URL=proxied_url, **QUICK) for _ in range(2))
    await proven(staying, 1)
    await proven(going, 1)
    with vanishing(to_postgres.port, TO, FROM) as rules:
        started = time.monotonic()
        assert await going.stop(within=26) == 0
        print(f"ended within {time.monotonic() - started:.1f} s of SIGTERM")  # noqa: T201

        async def told() -> bool:
            return "database_unreachable" in staying.read_log()

        await eventually(told, f"the loss to be noticed; log:\n{staying.read_log()[-2000:]}", 25)
        assert vanished(rules) > 0
        row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    await proven(staying, 2, within=30)
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
async def test_f41_rows_pass_at_ten_kilobytes_a_second(
    stack: Stack, to_postgres: FaultProxy, to_novu: FaultProxy, proxied_url: str
):
    await stack.running(
        DATABASE_URL=proxied_url, NOVU_API_URL=f"http://127.0.0.1:{to_novu.port}", DISPATCHER_BATCH_SIZE="1", **QUICK
    )
    to_postgres.rate = to_novu.rate = 10_000
    small = [await stack.notify() for _ in range(3)]
    assert await stack.final(*small) == ["SENT"] * 3
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
    assert to_postgres.counts["squeezed"] > 10
    assert to_novu.counts["squeezed"] >= 3
    to_postgres.rate = None
    large = await stack.notify(payload='{"text": "%s"}' % ("z" * 300_000))
    unknown = "select count(*) from dispatcher.recipient where notification_id = %s and state = 'unknown'"
    await eventually(lambda: stack.value(unknown, large), "a call that took too long", 20)
    await to_novu.heal()
    assert await stack.final(large, within=60) == ["SENT"]
    await effects_are_exactly(stack, 4)


@contextmanager
def own_names(folder: Path) -> Generator[tuple[Path, list[str]]]:
    """Give a process a file of host names of its own, and no other source of names; write into it at any time."""
    hosts, servers = folder / "hosts", folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    servers.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {servers} /etc/resolv.conf"
    under = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    yield hosts, under


@pytest.mark.slow
async def test_f44_dead_addresses_and_missing_names_are_survived(
    stack: Stack, to_novu: FaultProxy, tmp_path: Path, url: str
):
    with own_names(tmp_path) as (hosts, under):
        known = "127.0.0.1 localhost\n127.0.0.77 pg.test temporal.test novu.test\n"
        known += "127.0.0.1 pg.test temporal.test novu.test\n"
        hosts.write_text(known)
        process = stack.start(
            under=under,
            DATABASE_URL=url.replace("127.0.0.1", "pg.test") + "?sslmode=disable",
            TEMPORAL_ADDRESS=stack.temporal_address.replace("127.0.0.1", "temporal.test"),
            NOVU_API_URL=f"http://novu.test:{to_novu.port}",
            **QUICK,
        )
        await proven(process, 1)
        assert await stack.final(await stack.notify()) == ["SENT"]
        hosts.write_text("127.0.0.1 localhost\n")
        to_novu.reset()
        recipient = uuid4()
        row = await stack.notify(recipients=[recipient])
        outcome = "select outcome from dispatcher.recipient where notification_id = %s and outcome is not null"

        async def tried() -> str:
            return next((word for (word,) in await stack.rows(outcome, row)), "")

        assert await eventually(tried, "a call that found no address") == "not_sent"
        hosts.write_text(known)
        assert await stack.final(row) == ["SENT"]
        assert process.popen.poll() is None
        await effects_are_exactly(stack, 2)
