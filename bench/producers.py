"""Measures the cost of triggers and indexes for producers: commits per second of many writers while we are busy.

pgbench inserts one published row per transaction. Without a trigger the dispatcher polls; with `always` every commit
sends NOTIFY; with `adaptive` only a commit while the dispatcher is idle does. `bare` has neither triggers nor
indexes of ours, so its dispatcher is slower. A backlog keeps the dispatcher busy in all modes from the first commit to
the last. Rounds are interleaved, each begins with another mode. The ratio of two modes is that of the same
round, so that a slow minute of the machine concerns both.
"""

import dataclasses
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.block import Block, unchecked, until
from bench.contestants import DISPATCHER, Contestant, Ready, logged
from bench.stack import Say, Stack, output_of

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


@dataclass(frozen=True)
class Rates:
    """Rates of the writers' commits and of the rows that Novu accepted meanwhile.

    Both matter, because the writers are faster while the dispatcher does less.
    """

    commits_per_second: float
    accepted_per_second: float


def variant(mode: str, ready: Ready = DISPATCHER.ready) -> Contestant:
    """Return the dispatcher as a contestant with DISPATCHER_NOTIFY_MODE=`mode`."""
    environment = {**DISPATCHER.environment, "DISPATCHER_NOTIFY_MODE": mode}
    return dataclasses.replace(DISPATCHER, name=mode, ready=ready, environment=environment)


NO_TRIGGER, ALWAYS, ADAPTIVE = variant("off", logged(b'"started"')), variant("always"), variant("adaptive")
BARE = dataclasses.replace(NO_TRIGGER, name="bare")


@dataclass(frozen=True)
class Ratio:
    """The ratio of two modes in each round: the median, the smallest and the largest."""

    median: float
    least: float
    most: float


def ratio(rates: Mapping[str, Sequence[float]], mode: Contestant, base: Contestant) -> Ratio:
    """Return the rates of `mode` as parts of those of `base`."""
    found = [ours / theirs for ours, theirs in zip(rates[mode.name], rates[base.name], strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


async def measure(stack: Stack, rounds: int, seconds: float, say: Say) -> dict[str, list[float]]:
    """Return the commits per second of each round by mode; `off` has no triggers at all."""
    modes = [BARE, NO_TRIGGER, ALWAYS, ADAPTIVE]
    found: dict[str, list[float]] = {mode.name: [] for mode in modes}
    for number in range(1, rounds + 1):
        modes.append(modes.pop(0))
        for mode in modes:
            rates = await one_block(stack, mode, seconds)
            found[mode.name].append(rates.commits_per_second)
            say(f"producers {number}/{rounds} {mode.name}: {rates.commits_per_second:.0f} commits/s")
    return found


async def one_block(stack: Stack, contestant: Contestant, seconds: float) -> Rates:
    """Return the rates of one contestant."""
    async with unchecked(stack, contestant) as running:
        if contestant.name in {NO_TRIGGER.name, BARE.name}:
            await without_triggers(running)
        if contestant is BARE:
            await without_indexes(running)
        await draining(running)
        before, began = (await running.novu.summary()).pairs, time.monotonic()
        commits = await commits_per_second(stack, running, seconds)
        accepted = (await running.novu.summary()).pairs - before
        return Rates(commits, accepted / (time.monotonic() - began))


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
