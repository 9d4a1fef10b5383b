"""PostgreSQL goes down hard in the middle of a burst and comes back: how fast is the dispatcher then, beside before?

A server process dies by SIGKILL, as the kernel would end it for want of memory: the server ends every session, recovers
from its log and serves again, while the dispatcher process stays the same. The rows of that burst count as well: each
has to be accepted exactly once. So many bursts before, as many after; the medians count.
"""

import asyncio
import dataclasses
import os
import signal
import statistics
from contextlib import suppress

import psycopg

from bench.block import Block, block, until
from bench.burst import SECONDS, burst, warmed_up
from bench.contestants import DISPATCHER
from bench.stack import Say, Stack
from dispatcher.devstack import postgres

RESTART_TIMEOUT_SECONDS = 30.0
SHORT_TIMES = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
"""What was under way is taken up again soon, so that a run does not wait for leases."""


async def measure(stack: Stack, bursts: int, rows: int, say: Say) -> dict[str, float]:
    """Return the median rows per second before and after."""
    contestant = dataclasses.replace(DISPATCHER, environment={**DISPATCHER.environment, **SHORT_TIMES})
    async with block(stack, contestant) as running:
        await warmed_up(running)
        before = [(await burst(running, rows)).accepted_per_second for _ in range(bursts)]
        await running.write(rows)
        await crash(running)
        await running.accepted(SECONDS)
        after = [(await burst(running, rows)).accepted_per_second for _ in range(bursts)]
    rates = {"before": before, "after": after}
    for when, found in rates.items():
        say(f"recovery, {when}: {', '.join(f'{rate:.0f}' for rate in found)} rows/s")
    return {when: statistics.median(found) for when, found in rates.items()}


async def crash(running: Block) -> None:
    """Kill one process of the server, and return when it serves again."""
    info = running.connection.info
    url = f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as another:
        os.kill(info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            while True:  # until the server ends the others
                await another.execute("select 1")
    await until(
        lambda: asyncio.to_thread(postgres.accepts_sessions, url), RESTART_TIMEOUT_SECONDS, "PostgreSQL serving again"
    )
    await running.connection.close()
    running.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
