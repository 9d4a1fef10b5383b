"""The end of a chaos run: wait until no work is left, then report what was violated.

Safety has no tolerance; liveness has `T_LIVE`, from the last heal on.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.load import EXPECTED
from tests.support.invariants import Violations, find_violations, load_oracle
from tests.support.waits import last_value

T_LIVE = 120.0
"""Promise 1: a final status within two minutes of everything being reachable."""
RETRIES_SECONDS = 150.0

# Without rows whose change the host's trigger refuses. Scheduled rows too, even if they are not due yet: the load
# schedules none later than 22 s ahead.
UNFINISHED = """
select count(*) from notify.ent_notification n
where publish_status = 'PUBLISH' and not deactivated and notification_status in ('PENDING', 'PROCESSING')
  and not exists (
    select from dispatcher.delivery d where d.notification_id = n.id and d.refused_version is not null
  )
"""
LEASED = "select count(*) from dispatcher.delivery where lease_until is not null"
# An automatic retry may be due in minutes; the result does not wait for the clock.
HURRY = """
update dispatcher.delivery set next_attempt_at = clock_timestamp() where next_attempt_at > clock_timestamp()
returning notification_id
"""
WAITING = "select count(*) from dispatcher.delivery where next_attempt_at is not null"
WRONG = """
select n.id, n.description, n.notification_status::text, d.attempts, d.last_error
from notify.ent_notification n left join dispatcher.delivery d on d.notification_id = n.id
where n.notification_status::text is distinct from
  (%s::jsonb ->> n.description)
order by n.id
"""


@dataclass
class RunResult:
    """The result of the run."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[Any] = field(default_factory=list[Any])
    violations: Violations = field(default_factory=Violations)
    findings: list[str] = field(default_factory=list[str])
    quiet_seconds: float = 0.0
    hurried: int = 0
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    novu: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.wrong or self.violations or self.findings)


async def check_result(environment: ChaosEnvironment) -> RunResult:
    """Wait for quiet and return the result."""
    result = RunResult()
    began = time.monotonic()
    await quiet(environment, result)
    result.quiet_seconds = round(time.monotonic() - began, 1)
    await retries(environment, result)
    if not await last_value(lambda: none_open(environment), 60, every=0.05):
        result.findings.append("workflows are still open in Temporal")
    await environment.stop()
    await compare_rows(environment, result)
    result.findings += environment.findings
    return result


async def quiet(environment: ChaosEnvironment, result: RunResult) -> None:
    """Wait until every row is final and no row is leased."""

    async def idle() -> bool:
        return not await environment.value(UNFINISHED) and not await environment.value(LEASED)

    if not await last_value(idle, T_LIVE, every=0.05):
        result.lost = await environment.value(UNFINISHED)
        result.findings.append(f"not quiet {T_LIVE:.0f} s after the last heal: {result.lost} rows without an outcome")


async def retries(environment: ChaosEnvironment, result: RunResult) -> None:
    """Bring the automatic retries forward until none is left."""
    hurried: set[int] = set()
    deadline = time.monotonic() + RETRIES_SECONDS
    while await environment.value(WAITING) or await environment.value(UNFINISHED) or await environment.value(LEASED):
        hurried |= {row[0] for row in await environment.rows(HURRY)}
        if time.monotonic() > deadline:
            result.findings.append(f"retries went on for {RETRIES_SECONDS:.0f} s")
            break
        await asyncio.sleep(0.5)
    result.hurried = len(hurried)


async def none_open(environment: ChaosEnvironment) -> bool:
    """Whether Temporal has no open workflow of ours."""
    client = await Client.connect(environment.stack.temporal_address)
    return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 0


async def compare_rows(environment: ChaosEnvironment, result: RunResult) -> None:
    """Compare what is there with what should be."""
    stack = environment.stack
    stack.connection = await stack.connection.connect(stack.url, autocommit=True)
    await stack.novu.wait_idle()
    await load_oracle(stack.connection, stack.novu)
    result.violations = await find_violations(stack.connection)
    result.wrong = (await environment.rows(WRONG, json.dumps(EXPECTED)))[:20]
    summary = await stack.novu.summary()
    result.doubled = summary.duplicate_pairs
    result.novu = {"requests": summary.requests, "effects": summary.effects, "statuses": summary.statuses}
    result.statuses = await stack.counts()
    result.rows = sum(result.statuses.values())


def kinds(log: list[dict[str, Any]]) -> dict[str, int]:
    """Return how often each kind had an effect."""
    return dict(sorted(Counter(entry["kind"] for entry in log if entry["struck"]).items()))
