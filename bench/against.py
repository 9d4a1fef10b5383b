"""`python -m bench --against REV`: the working tree beside another commit of this repository.

Both are measured alike: each is checked out into a worktree of its own, installs its own schema with its own
`dispatcher db install`, and runs its own `dispatcher run` with the libraries that are installed here. Only one of the
two runs at a time. In each round one goes directly after the other, and the order changes from round to round.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from bench import burst, idle, latency, pairs, producers, report, stack, stream
from bench.block import ledger
from bench.pairs import Better, Value
from bench.revisions import Refused, Revision, checked_out, commit_of, other_libraries, refuse_changes
from bench.stack import Say, Stack
from bench.verdict import spread

ROUNDS = 6
"""Even, so that each commit goes first equally often."""
BLOCK_SECONDS = 4.0
"""Start, warm-up and end of one contestant."""
STACK_SECONDS = 15.0
TREE = "working tree"
Values = dict[str, Value]


@dataclass(frozen=True)
class Sizes:
    """How much each round measures of each commit."""

    latency_rows: int = 100
    rows: int = 10_000
    stream_seconds: float = 15
    producer_seconds: float = 6
    idle_seconds: float = 10


QUICK = Sizes(latency_rows=4, rows=200, stream_seconds=1, producer_seconds=1, idle_seconds=0.2)


async def measure_latency(stack: Stack, revision: Revision, sizes: Sizes, _: int) -> Values:
    """Return commit to Novu's request, one row at a time."""
    found = spread(await latency.one_block(stack, revision.contestant(), sizes.latency_rows))
    return {"latency p50": Value(found.p50_ms, "ms"), "latency p99": Value(found.p99_ms, "ms")}


async def measure_burst(stack: Stack, revision: Revision, sizes: Sizes, _: int) -> Values:
    """Return the rates of one statement's rows of one enterprise."""
    found = await burst.one_block(stack, revision.contestant(), sizes.rows)
    rates = {"accepted": found.accepted_per_second, "final": found.final_per_second}
    return {f"burst {what}": Value(rate, "rows/s", Better.HIGHER) for what, rate in rates.items()}


async def measure_stream(stack: Stack, revision: Revision, sizes: Sizes, number: int, *, rate: int) -> Values:
    """Return commit to SENT under single commits at a fixed rate."""
    load = stream.Load(rate, sizes.stream_seconds, seed=number)
    found = await stream.one_block(stack, revision.contestant(), load)
    values = {
        "SENT p50": Value(found.sent.p50_ms, "ms"),
        "SENT p99": Value(found.sent.p99_ms, "ms"),
        "processor": Value(found.processor_ms_per_row, "ms/row"),
        "written": Value(found.written_per_second, "rows/s", Better.CONTROL),
        "not SENT at its end": Value(found.unsent, "rows", Better.CONTROL),
    }
    return {f"stream of {rate}/s, {what}": value for what, value in values.items()}


async def measure_producers(stack: Stack, revision: Revision, sizes: Sizes, _: int) -> Values:
    """Return the rates of 32 writers and of the dispatcher that works behind them."""
    found = await producers.one_block(stack, revision.contestant(), sizes.producer_seconds)
    return {
        "producers": Value(found.commits_per_second, "commits/s", Better.HIGHER),
        "producers, accepted meanwhile": Value(found.accepted_per_second, "rows/s", Better.HIGHER),
    }


async def measure_idle(stack: Stack, revision: Revision, sizes: Sizes, _: int) -> Values:
    """Return what it costs to wait: a gain in speed must not be paid for with a busy loop."""
    found = await idle.one_block(stack, revision.contestant(), sizes.idle_seconds)
    return {
        "idle memory": Value(found.memory_mb, "MB"),
        "idle processor": Value(100 * found.core_share, "% of a core"),
        "ready": Value(found.ready_seconds, "s"),
    }


class Part(NamedTuple):
    """How to measure one commit in one round, and about how many seconds that takes."""

    measure: Callable[[Stack, Revision, Sizes, int], Awaitable[Values]]
    seconds: Callable[[Sizes], float]


def stream_seconds(sizes: Sizes) -> float:
    """Return about how many seconds one stream takes."""
    return BLOCK_SECONDS + stream.LEAD_SECONDS + sizes.stream_seconds


PARTS = {
    "latency": Part(measure_latency, lambda sizes: BLOCK_SECONDS + 0.09 * sizes.latency_rows),
    "burst": Part(measure_burst, lambda sizes: BLOCK_SECONDS + sizes.rows / 2000),
    "stream50": Part(partial(measure_stream, rate=50), stream_seconds),
    "stream200": Part(partial(measure_stream, rate=200), stream_seconds),
    "idle": Part(measure_idle, lambda sizes: BLOCK_SECONDS + idle.SETTLE_SECONDS + sizes.idle_seconds),
    "producers": Part(measure_producers, lambda sizes: BLOCK_SECONDS + 3 + sizes.producer_seconds),
}
"""In this order; the producers are last because they leave a backlog of workflows behind."""


@dataclass(frozen=True)
class Plan:
    """Which parts, how much of each, how many rounds."""

    parts: Sequence[str]
    sizes: Sizes
    rounds: int

    @property
    def seconds(self) -> float:
        """About how long the run takes."""
        return STACK_SECONDS + 2 * self.rounds * sum(PARTS[part].seconds(self.sizes) for part in self.parts)


def main(asked: str, plan: Plan, say: Say, *, quick: bool, as_json: bool) -> int:
    """Compare, print, save; return the exit code."""
    # A shell that starts us in the background has SIGINT ignored. SIGTERM alone would leave the worktrees behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        record, figures = compare(asked, plan, say, quick=quick)
    except Refused as refused:
        say(f"error: {refused}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: no result")
        return 130
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        pairs.show(f"working tree {record['tree'][:7]} against {record['revision'][:7]}", figures)
    if quick:
        say("A quick run shows that everything works. Its numbers mean nothing.")
    else:
        say(f"saved {report.save(record, '-against-' + record['revision'][:7])}")
    return 0


def compare(asked: str, plan: Plan, say: Say, *, quick: bool) -> tuple[dict[str, Any], list[pairs.Figure]]:
    """Return the record and the figures. A quick run does not refuse uncommitted changes, but it does not see them."""
    revision, tree = commit_of(asked), commit_of("HEAD")
    if not quick:
        refuse_changes()
    machine, notes = report.machine(), noted(revision, tree)
    minutes = plan.seconds / 60
    say(f"working tree {tree[:7]} against {revision[:7]}: {plan.rounds} round(s), about {minutes:.0f} min")
    for note in notes:
        say(f"note: {note}")
    with checked_out(revision, tree) as (theirs, ours):
        both = (Revision(revision[:7], "template_revision", theirs), Revision(TREE, "template_tree", ours))
        figures = asyncio.run(measure(both, plan, say))
    record = {
        "at": datetime.now(UTC).isoformat(),
        "asked": asked,
        "revision": revision,
        "tree": tree,
        "quick": quick,
        "notes": notes,
        "machine": machine,
        "sizes": asdict(plan.sizes),
        "figures": {figure.name: figure.record() for figure in figures},
        "ledger": [asdict(counts) for counts in ledger],
    }
    return record, figures


def noted(revision: str, tree: str) -> list[str]:
    """Return what a reader of the figures has to know."""
    notes: list[str] = []
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 4:
        notes.append(
            f"other work keeps this machine busy (load {load:.1f} on {cores} cores): the ratios will spread widely"
        )
    if revision == tree:
        notes.append("both are the same commit: the spread of the ratios is the noise of this machine")
    if other_libraries(revision, tree):
        notes.append("the two commits pin different libraries; both run with those that are installed here")
    return notes


async def measure(both: tuple[Revision, Revision], plan: Plan, say: Say) -> list[pairs.Figure]:
    """Return the figures. No round begins after twice the expected time: a slow machine ends with fewer pairs."""
    found: list[tuple[Values, Values]] = []
    deadline = time.monotonic() + 2 * plan.seconds
    async with stack.running() as servers:
        for revision in both:
            await servers.template(revision.template, revision.install)
        for number in range(plan.rounds):
            if found and time.monotonic() > deadline:
                say(f"twice the expected time is over: this run ends after {number} of {plan.rounds} rounds")
                break
            found.append(await one_round(servers, both, plan, number, say))
    return pairs.paired(found)


async def one_round(
    servers: Stack, both: tuple[Revision, Revision], plan: Plan, number: int, say: Say
) -> tuple[Values, Values]:
    """Return the values of both; the revision goes first in even rounds, the working tree in odd ones."""
    values: tuple[Values, Values] = ({}, {})
    for part in plan.parts:
        for side in (number % 2, 1 - number % 2):
            measured = await PARTS[part].measure(servers, both[side], plan.sizes, number)
            values[side].update(measured)
            told = "; ".join(f"{name} {value.amount:.4g} {value.unit}" for name, value in measured.items())
            say(f"{number + 1}/{plan.rounds} {both[side].name}: {told}")
    return values
