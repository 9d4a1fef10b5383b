"""Measures the rate after PostgreSQL crashed in the middle of a burst and restarted, beside the rate before.

One server process is killed with SIGKILL. The server then ends every session, recovers from its log and serves again,
while the dispatcher process runs on. Every row of that burst has to be accepted exactly once, too. The medians of as
many bursts before as after the crash are compared.
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
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.stack import Stack
from dispatcher.devstack import postgres

BEFORE, AFTER = "burst before the crash", "burst after the crash"
RESTART_TIMEOUT_SECONDS = 30.0
SHORT_TIMES = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
"""A short lease and sweep interval, so that interrupted rows are claimed again within seconds."""


async def one_block(stack: Stack, contestant: Contestant, bursts: int, rows: int) -> Values:
    """Return the median rows per second before and after the crash."""
    hasty = dataclasses.replace(contestant, environment={**contestant.environment, **SHORT_TIMES})
    async with block(stack, hasty) as running:
        await warmed_up(running)
        before = [(await burst(running, rows)).accepted_per_second for _ in range(bursts)]
        await running.write(rows)
        await crash(running)
        await running.accepted(SECONDS)
        after = [(await burst(running, rows)).accepted_per_second for _ in range(bursts)]
    medians = {BEFORE: statistics.median(before), AFTER: statistics.median(after)}
    return {when: Value(rate, "rows/s", Better.HIGHER) for when, rate in medians.items()}


async def crash(running: Block) -> None:
    """Kill one process of the server, and return when it serves again."""
    info = running.connection.info
    url = f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as another:
        os.kill(info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            while True:  # until the server ends this session too
                await another.execute("select 1")
    await until(
        lambda: asyncio.to_thread(postgres.accepts_sessions, url), RESTART_TIMEOUT_SECONDS, "PostgreSQL serving again"
    )
    await running.connection.close()
    running.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
