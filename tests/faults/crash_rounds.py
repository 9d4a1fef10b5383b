"""Crash rounds: seeded traffic, a SIGKILL at a named point, another process, and then the invariants.

`python -m tests.faults.crash_rounds` plays every point with `SEEDS` seeds, a few rounds at a time, and ends with a
table; `POINT=start-acked SEED=7` plays one of them again. Odd seeds are calm: one thing at a time, so that a call that
is repeated betrays the point; even ones are busy.
"""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from dispatcher.devstack import postgres, temporal
from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from tests.faults.run_and_crash import POINTS
from tests.support.databases import STACK_TEMPLATE, cloned, make_stack_template
from tests.support.invariants import find_violations, load_oracle
from tests.support.stack import Process, Stack, open_stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
MOST = {"hint-read": 2, "claim-committed": 3, "ledger-written": 1}
"""The highest n that is sure to be reached; 6 for the other points."""
REPEATING = ("request-sent", "answer-read", "ledger-written")
"""After a crash here, and nowhere else, Novu hears the same call twice. Answers are settled as they arrive, so when
some are written, other calls of the run can be on the wire."""
KINDS = ("one", "one", "family", "burst", "few", "soon")
CALM = ("one", "family", "burst")
ROOMS = 12  # most of a round is waiting: for a lease, for a call that may still be worked on


@dataclass(frozen=True)
class Round:
    """The result of a round."""

    point: str
    seed: int
    nth: int
    rows: int
    rescue: float
    """Seconds from the kill until all was final and nothing was held."""
    doubted: int
    """Calls that were written down and not settled at the kill."""
    repeated: int
    """Of them, those that Novu heard again after it had accepted them."""
    wrong: list[str]


async def play(stack: Stack, point: str, seed: int) -> Round:
    """Play one round in a fresh stack."""
    dice = random.Random(f"{point} {seed}")
    nth = dice.randint(1, MOST.get(point, 6))
    proof = stack.folder / "proof"
    await stack.novu.add_fault("status", status=503, probability=0.3, times=4, seed=seed)
    doomed = stack.start((sys.executable, "-m", "tests.faults.run_and_crash", point, str(nth), str(proof)), **QUICK)
    await write_until_dead(stack, doomed, dice, calm=seed % 2 == 1)
    assert doomed.popen.wait() == -signal.SIGKILL, f"{point} {seed}: it did not die as it should: {doomed.read_log()}"
    killed = json.loads(proof.read_text())["at"]
    doubted = {
        tx for (tx,) in await stack.rows("select transaction_id from dispatcher.recipient where state = 'sending'")
    }
    await stack.running(**QUICK)
    await stack.quiet()
    rescue = time.time() - killed
    repeated = await calls_after_acceptance(stack.novu)
    wrong = [*await verdicts(stack)]
    wrong += ["a settled call was repeated"] if not repeated <= doubted else []
    if seed % 2 == 1 and point not in REPEATING and repeated:
        wrong.append(f"{len(repeated)} calls were repeated after a crash that did not leave them in doubt")
    rows = await stack.value("select count(*) from notify.ent_notification")
    return Round(point, seed, nth, rows, rescue, len(doubted), len(repeated), wrong)


async def verdicts(stack: Stack) -> list[str]:
    """Return the violations once no work is left."""
    wrong: list[str] = []
    counts = await stack.counts()
    if set(counts) != {"SENT"}:
        wrong.append(f"not all SENT: {counts}")
    owed = await stack.value("select sum(cardinality(recipients)) from notify.ent_notification")
    summary = await stack.novu.summary()
    if (summary.effects, summary.duplicate_pairs) != (owed, 0):
        wrong.append(f"{owed} recipients, {summary.effects} effects, {summary.duplicate_pairs} of them double")
    await load_oracle(stack.connection, stack.novu)
    return wrong + [f"{name}: {rows}" for name, rows in (await find_violations(stack.connection)).items()]


async def calls_after_acceptance(novu: FakeNovu) -> set[str]:
    """Return the transactions that were sent again after Novu had answered 201 to a call for them."""
    accepted: set[str] = set()
    again: set[str] = set()
    for request in await novu.requests():
        told = {tx for tx in request.transaction_ids if tx} if request.method == "POST" else set[str]()
        again |= told & accepted
        if request.status == 201:
            accepted |= told
    return again


async def write_until_dead(stack: Stack, doomed: Process, dice: random.Random, *, calm: bool) -> None:
    """Write a seeded mix of rows, then single ones, until the process has died."""
    deadline = time.monotonic() + 60
    if dice.random() < 0.5:  # else what it finds at the start is a backlog

        async def hears() -> bool:
            return doomed.popen.poll() is not None or await stack.listening() > 0

        await eventually(hears, f"a listener; {doomed.read_log()}")
    acts = dice.randint(4, 7)
    while doomed.popen.poll() is None:
        assert time.monotonic() < deadline, f"the point was not reached; log:\n{doomed.read_log()[-3000:]}"
        kinds = (CALM if calm else KINDS) if acts > 0 else ("one",)
        await write(stack, dice.choice(kinds), dice)
        acts -= 1
        if calm:
            await settled_or_dead(stack, doomed)
        await asyncio.sleep(dice.uniform(0, 0.15) if acts > 0 else 0.3)


async def write(stack: Stack, kind: str, dice: random.Random) -> None:
    """Write one thing: a row, one with many recipients, a batch, some rows at once, or one that is due in a moment."""
    if kind == "burst":
        await stack.burst(dice.randint(12, 60))
    elif kind == "few":
        await stack.burst(dice.randint(2, 9))
    elif kind == "soon":
        await stack.rows(
            "update notify.ent_notification set scheduled_for = clock_timestamp() + interval '0.4 s' where id = %s",
            await stack.notify(scheduled_for="infinity"),
        )
    else:
        await stack.notify(recipients=[uuid4() for _ in range(1 if kind == "one" else dice.randint(2, 14))])


async def settled_or_dead(stack: Stack, doomed: Process) -> None:
    """Wait until nothing is under way, or the process has died."""

    async def done() -> bool:
        return doomed.popen.poll() is not None or set(await stack.counts()) == {"SENT"}

    await eventually(done, f"a final status or a death; {doomed.read_log()[-3000:]}", 60)


@asynccontextmanager
async def servers(folder: Path) -> AsyncGenerator[tuple[postgres.PostgresServer, temporal.TemporalServer]]:
    """Run PostgreSQL with the template, and Temporal."""
    settings = {"fsync": "off", "max_connections": "300"}
    with (
        postgres.run_postgres(folder / "postgres", settings=settings) as database,
        temporal.run_temporal(folder) as server,
    ):
        await make_stack_template(database)
        yield database, server


@contextmanager
def open_folder() -> Generator[Path]:
    """Hand out a folder that the servers' user may enter."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def play_all(
    database: postgres.PostgresServer, server: temporal.TemporalServer, wanted: Iterable[tuple[str, int]], folder: Path
) -> AsyncGenerator[Round]:
    """Play the rounds, `ROOMS` at a time, each with its own fake Novu; yield each round as it ends."""
    waiting = iter(wanted)
    done: asyncio.Queue[Round | None] = asyncio.Queue()

    async def room() -> None:
        async with run_fake_novu() as novu:
            for point, seed in waiting:
                await novu.reset()
                place = folder / f"{point}-{seed}"
                place.mkdir()
                try:
                    async with (
                        cloned(database, STACK_TEMPLATE) as url,
                        open_stack(url, server.address, novu, place) as stack,
                    ):
                        done.put_nowait(await play(stack, point, seed))
                except Exception as error:  # noqa: BLE001  (one lost round must not hide the others)
                    done.put_nowait(Round(point, seed, 0, 0, 0, 0, 0, [f"{type(error).__name__}: {error}"]))

    async def rooms() -> None:
        await asyncio.gather(*(room() for _ in range(ROOMS)))
        done.put_nowait(None)

    playing = asyncio.create_task(rooms())
    while (ended := await done.get()) is not None:
        yield ended
    await playing


async def main(wanted: list[tuple[str, int]]) -> int:
    """Play, print each round, and write the table; return 1 if an invariant was violated."""
    rounds: list[Round] = []
    begun = time.monotonic()
    with open_folder() as folder:
        async with servers(folder) as (database, server):
            async for each in play_all(database, server, wanted, folder):
                rounds.append(each)
                place = f"{len(rounds)}/{len(wanted)} {time.monotonic() - begun:.0f} s"
                print_line(
                    f"{place} {each.point} seed {each.seed} nth {each.nth}: {each.rows} rows, {each.rescue:.1f} s"
                )
                for wrong in each.wrong:
                    print_line(f"  WRONG (POINT={each.point} SEED={each.seed}): {wrong}")
    print_line(table(rounds))
    return int(any(each.wrong for each in rounds))


def table(rounds: list[Round]) -> str:
    """Return the summary: by point, what was seen."""
    lines = [f"{'point':20} rounds wrong  rescue s: median   most  in doubt  repeated"]
    count = Counter(each.point for each in rounds)
    for point in filter(count.__contains__, POINTS):
        here = [each for each in rounds if each.point == point]
        times = sorted(each.rescue for each in here)
        wrong, doubted = sum(bool(each.wrong) for each in here), sum(each.doubted for each in here)
        lines.append(
            f"{point:20} {len(here):6} {wrong:5} {times[len(times) // 2]:17.1f} {times[-1]:6.1f} {doubted:9}"
            f" {sum(each.repeated for each in here):9}"
        )
    return "\n".join(lines)


def print_line(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    points = [os.environ["POINT"]] if os.environ.get("POINT") else list(POINTS)
    first = os.environ.get("SEED")
    seeds = [int(first)] if first else range(1, 1 + int(os.environ.get("SEEDS", "20")))
    sys.exit(asyncio.run(main([(point, seed) for seed in seeds for point in points])))
