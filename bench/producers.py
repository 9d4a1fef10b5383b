"""Measures the cost of triggers and indexes for producers: commits per second of many writers beside our work.

pgbench inserts one published row per transaction. Without a trigger the dispatcher polls; with `always` every commit
sends NOTIFY; with `adaptive` only a commit while the dispatcher is idle does. A backlog keeps the dispatcher equally
busy in all modes from the first commit to the last. Rounds are interleaved, each begins with another mode; the median
counts.
"""

import dataclasses
import re
import time

from bench.block import Block, unchecked, until
from bench.contestants import DISPATCHER, Contestant, Ready, logged
from bench.figures import Better, Value, Values
from bench.stack import Stack, output_of

COMMITS, MEANWHILE = "producers", "producers, accepted meanwhile"
WRITERS = 32
BACKLOG = 20_000
"""More rows than the dispatcher processes in one round."""
DRAINING_SECONDS = 30.0
INSERT = """insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)
select gen_random_uuid()::text, 'PUBLISH', id, '{}', array[gen_random_uuid()]
from notify.ent_notification_workflow"""
ONE, MANY = (
    " where workflow_key = 'default-in-app'",
    f", generate_series(1, {BACKLOG}) where workflow_key = 'default-in-app'",
)


def variant(mode: str, ready: Ready = DISPATCHER.ready) -> Contestant:
    """Return the dispatcher as a contestant with DISPATCHER_NOTIFY_MODE=`mode`."""
    environment = {**DISPATCHER.environment, "DISPATCHER_NOTIFY_MODE": mode}
    return dataclasses.replace(DISPATCHER, name=mode, ready=ready, environment=environment)


NO_TRIGGER, ALWAYS, ADAPTIVE = variant("off", logged(b'"started"')), variant("always"), variant("adaptive")
BARE = dataclasses.replace(NO_TRIGGER, name="bare")
"""Without triggers and without indexes of ours. Its dispatcher is slower, too."""


async def one_block(stack: Stack, contestant: Contestant, seconds: float) -> Values:
    """Return the rates of the writers' commits and of the rows that Novu accepted meanwhile.

    Both matter, because the writers are faster while the dispatcher does less.
    """
    async with unchecked(stack, contestant) as running:
        if contestant.name in {NO_TRIGGER.name, BARE.name}:
            await without_triggers(running)
        if contestant.name == BARE.name:
            await without_indexes(running)
        await draining(running)
        before, began = (await running.novu.summary()).pairs, time.monotonic()
        commits = await commits_per_second(stack, running, seconds)
        accepted = (await running.novu.summary()).pairs - before
        return {
            COMMITS: Value(commits, "commits/s", Better.HIGHER),
            MEANWHILE: Value(accepted / (time.monotonic() - began), "rows/s", Better.HIGHER),
        }


async def without_triggers(running: Block) -> None:
    """Drop the triggers."""
    for name in ("dispatcher_insert", "dispatcher_update"):
        await running.connection.execute(f"drop trigger {name} on notify.ent_notification".encode())


async def without_indexes(running: Block) -> None:
    """Drop our indexes on the outbox."""
    named = "select indexrelid::regclass::text from pg_index where indrelid = 'notify.ent_notification'::regclass"
    for (name,) in await (await running.connection.execute(named.encode())).fetchall():
        if "_dispatcher_" in name:
            await running.connection.execute(f"drop index {name}".encode())


async def draining(running: Block) -> None:
    """Write a backlog, and return when the dispatcher has begun to process it."""
    await running.connection.execute(f"{INSERT}{MANY}".encode())

    async def begun() -> bool:
        return (await running.novu.summary()).pairs > 0

    await until(begun, DRAINING_SECONDS, "the first of a backlog accepted")


async def commits_per_second(stack: Stack, running: Block, seconds: float) -> float:
    """Return the rate that pgbench reached."""
    server = stack.database
    script = stack.folder / "insert.sql"
    script.write_text(f"{INSERT}{ONE};")
    place = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", running.connection.info.dbname]
    how = ["-n", "-c", str(WRITERS), "-j", "2", "-T", str(max(1, round(seconds))), "-f", str(script)]
    code, words = await output_of(stack.folder, server.binaries / "pgbench", *how, *place)
    match = re.search(r"tps = ([0-9.]+)", words)
    if code or match is None:
        raise RuntimeError(f"pgbench failed: {words[-1000:]}")
    return float(match[1])
