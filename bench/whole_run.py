"""A run of all contestants: each part in its rounds, the contestants of a round one after the other, in changing order.

A block that fails is named in the record, and the run goes on without its figures.
"""

import contextlib
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import psycopg
from temporalio.service import RPCError

from bench import stack
from bench.contestants import BASE, Contestant, prepare_all
from bench.figures import add
from bench.parts import PARTS, Round
from bench.progress import Reporter, reporting
from bench.report import Results
from bench.revisions import Refused, Revision, checked_out, commit_of, git

FAILURES = (TimeoutError, RuntimeError, psycopg.Error, RPCError)
"""What a block may fail with; any other error ends the run."""
Makers = list[Callable[[], Contestant]]
"""Make the contestants of one part, each for one block."""


async def measure(results: Results, parts: Sequence[str], rounds: int | None, *, base: bool) -> None:
    """Run `parts` and add to `results`. `rounds` replaces the rounds of each part; `base`: BASE takes part."""
    with base_revision(wanted=base) as revision:
        plan = {name: (rounds or PARTS[name].rounds, contestants(name, revision)) for name in parts}
        blocks = {name: number * len(makers) for name, (number, makers) in plan.items()}
        seconds = stack.SECONDS + sum(PARTS[name].seconds(results.sizes) * number for name, number in blocks.items())
        with reporting(sum(blocks.values())) as reporter:
            reporter.say(f"{sum(blocks.values())} blocks, about {seconds / 60:.0f} min on an idle machine")
            async with stack.running() as servers:
                await prepare_all(servers)
                if revision and any(PARTS[name].base for name in parts):
                    await servers.template(revision.template, revision.install)
                for name, (number, makers) in plan.items():
                    for each in range(number):
                        turn = each % len(makers)
                        now = Round(servers, results.sizes, each, reporter.say)
                        await one_round(results, name, now, [*makers[turn:], *makers[:turn]], reporter)


async def one_round(results: Results, part: str, now: Round, makers: Makers, reporter: Reporter) -> None:
    """Measure each contestant once."""
    for make in makers:
        contestant = make()
        words = f"{part} {now.number + 1}, {contestant.name}"
        reporter.begin(words)
        try:
            values = await PARTS[part].measure(now, contestant)
        except FAILURES as error:
            results.failures.append(f"{words}: {str(error).splitlines()[0]}")
            reporter.fail(words, error)
        else:
            add(results.parts, part, contestant.name, values)
            reporter.end(words, values)


def contestants(part: str, base: Revision | None) -> Makers:
    """Return the makers of a part's contestants."""
    makers: Makers = [lambda contestant=contestant: contestant for contestant in PARTS[part].contestants]
    return [*makers, base.contestant] if base and PARTS[part].base else makers


@contextmanager
def base_revision(*, wanted: bool) -> Generator[Revision | None]:
    """Check BASE out for the block; None if it is not wanted or not in the repository."""
    with contextlib.ExitStack() as worktrees:
        revision = None
        if wanted:
            with contextlib.suppress(Refused):
                commit = commit_of(BASE)
                [folder] = worktrees.enter_context(checked_out(commit))
                revision = Revision(BASE, "template_base", folder)
        yield revision


def commit() -> str:
    """Return the commit of the working tree, with a mark if something in it is not committed; empty without git."""
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return commit_of("HEAD")[:12] + (" with changes" if changed else "")
    except (FileNotFoundError, subprocess.CalledProcessError, Refused):
        return ""
