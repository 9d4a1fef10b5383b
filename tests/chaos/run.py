"""One chaos run: producers and faults side by side, then the result."""

import asyncio
import json
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos import load, network_faults, novu_faults, process_faults, server_faults
from tests.chaos.environment import ChaosEnvironment, open_environment
from tests.chaos.injections import KINDS, MissedError, deck
from tests.chaos.result import RunResult, check_result, kinds
from tests.support.waits import last_value

MODULES = (novu_faults, process_faults, network_faults, server_faults)  # importing them fills KINDS
LOAD_SHARE = 0.95
"""Then only a trickle is left, so that the last faults still meet something."""


@dataclass
class Plan:
    """The plan of a run; the same plan with the same seed repeats it."""

    seed: str
    rows: int
    faults: int
    dispatchers: int
    pace: tuple[float, float]
    log: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def seconds(self) -> float:
        """Return about how long the faults take."""
        return self.faults * sum(self.pace) / 2

    @property
    def struck(self) -> int:
        """Return how many faults had an effect."""
        return sum(entry["struck"] for entry in self.log)


def print_line(words: str) -> None:
    """Print at once."""
    print(words, flush=True)


async def execute(plan: Plan, folder: Path) -> RunResult:
    """Run the plan with everything in `folder`; return the result."""
    print_line(f"seed {plan.seed}: {plan.rows} rows, {plan.faults} faults of {len(KINDS)} kinds, one every "
        f"{plan.pace[0]:g} to {plan.pace[1]:g} s, {plan.dispatchers} dispatchers")  # fmt: skip
    async with open_environment(folder, plan.dispatchers) as environment:
        await ready(environment)
        keeper = asyncio.create_task(environment.supervise())
        producing = asyncio.create_task(
            load.produce(environment, load.steps(plan.seed, plan.rows, plan.seconds * LOAD_SHARE))
        )
        try:
            await inject(environment, plan)
            environment.ending.set()
            await producing
            await environment.heal()
            print_line(f"{environment.seconds():7.1f} s  healed; waiting for quiet")
            return await check_result(environment)
        finally:
            for task in (producing, keeper):
                task.cancel()
            await asyncio.gather(producing, keeper, return_exceptions=True)
            await dump(environment, plan, folder)


async def ready(environment: ChaosEnvironment) -> None:
    """Wait until every dispatcher listens; the clock of the run starts then."""

    async def hear() -> bool:
        return await environment.stack.listening() == len(environment.slots)

    if not await last_value(hear, 60, every=0.05):
        raise RuntimeError(f"the dispatchers did not start: {environment.stack.log_tails()}")
    environment.began = time.monotonic()


async def inject(environment: ChaosEnvironment, plan: Plan) -> None:
    """Inject faults until enough had an effect; each kind comes once before any comes twice."""
    dice = Random(plan.seed)
    waiting: list[str] = []
    number = 0
    async with asyncio.TaskGroup() as tasks:
        while plan.struck < plan.faults and number < 2 * plan.faults:
            waiting = waiting or deck(dice)
            number += 1
            tasks.create_task(strike(environment, plan, number, waiting.pop()))
            await asyncio.sleep(dice.uniform(*plan.pace))
    if plan.struck < plan.faults:
        environment.findings.append(f"only {plan.struck} of {plan.faults} faults struck")


async def strike(environment: ChaosEnvironment, plan: Plan, number: int, kind: str) -> None:
    """Inject one fault and record what it did."""
    at, struck = environment.seconds(), True
    try:
        words = await KINDS[kind](environment, Random(f"{plan.seed}/{number}"))
    except MissedError as missed:
        words, struck = f"missed: {missed}", False
    except Exception as error:  # noqa: BLE001  (a broken fault must not hide what the others show)
        words, struck = f"failed: {error!r}", False
        environment.findings.append(f"fault {number} ({kind}) failed: {''.join(traceback.format_exception(error))}")
    entry = {"number": number, "kind": kind, "at": round(at, 1), "until": round(environment.seconds(), 1)}
    plan.log.append(entry | {"struck": struck, "words": words})
    print_line(f"{at:7.1f} s  {number:3} {kind}: {words}")


async def dump(environment: ChaosEnvironment, plan: Plan, folder: Path) -> None:
    """Leave behind what a person needs to understand the end."""
    questions = {
        "unfinished": "select d.*, n.notification_status, n.description from notify.ent_notification n left join"
        " dispatcher.delivery d on d.notification_id = n.id where n.notification_status in ('PENDING', 'PROCESSING')"
        " limit 200",
        "sessions": "select pid, application_name, state, wait_event, xact_start, query from pg_stat_activity",
        "nodes": "select * from dispatcher.node",
    }
    found = {name: [str(row) for row in await environment.rows(statement)] for name, statement in questions.items()}
    (folder / "dump.json").write_text(json.dumps(found, indent=1))
    (folder / "schedule.json").write_text(json.dumps(plan.log, indent=1))


def summary(plan: Plan, result: RunResult) -> dict[str, Any]:
    """Return what is worth keeping of a run."""
    told = asdict(plan)
    told.pop("log")
    missed = sum(not entry["struck"] for entry in plan.log)
    return told | {"struck": plan.struck, "missed": missed, "kinds": kinds(plan.log), **asdict(result)}
