"""`python -m bench --against REV`: the working tree beside another commit of this repository.

Both are measured alike: each is checked out into a worktree of its own, installs its own schema with its own
`dispatcher db install`, and runs its own `dispatcher run` with the libraries that are installed here. Only one of the
two runs at a time. In each round one goes directly after the other, and the order changes from round to round.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bench import pairs, report, stack
from bench.block import ledger
from bench.figures import Values
from bench.parts import PARTS, Round
from bench.revisions import Revision, checked_out, commit_of, other_libraries, refuse_changes
from bench.sizes import Sizes
from bench.stack import Say, Stack

ROUNDS = 6
"""Even, so that each commit goes first equally often."""
TREE = "working tree"


@dataclass(frozen=True)
class Plan:
    """Which parts, how much of each, how many rounds."""

    parts: Sequence[str]
    sizes: Sizes
    rounds: int

    @property
    def seconds(self) -> float:
        """About how long the run takes."""
        return stack.SECONDS + 2 * self.rounds * sum(PARTS[part].seconds(self.sizes) for part in self.parts)


def main(asked: str, plan: Plan, say: Say, *, quick: bool, as_json: bool) -> int:
    """Compare, print, save; return the exit code."""
    record, figures = compare(asked, plan, say, quick=quick)
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
            now = Round(servers, plan.sizes, number, say)
            measured = await PARTS[part].measure(now, both[side].contestant())
            values[side].update(measured)
            told = "; ".join(f"{name} {value.amount:.4g} {value.unit}" for name, value in measured.items())
            say(f"{number + 1}/{plan.rounds} {both[side].name}: {told}")
    return values
