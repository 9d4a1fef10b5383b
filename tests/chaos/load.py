"""The producers of a chaos run: they insert rows singly and in bursts, and change some of them later.

Each row's `description` names its expected end. A statement that changes the expectation changes it too.
"""

import asyncio
import itertools
import json
import math
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from tests.chaos.environment import FIREWALLED_WORKFLOW, ChaosEnvironment

TENANTS = 5
GOOD, POISON, LATER, DRAFT, RETRACTED = "good", "poison", "later", "draft", "retracted"
FIREWALLED, BARRED = "firewalled", "barred"
"""A firewall answers 403 to calls with a firewalled row. The host's trigger refuses to change a barred row's status."""
EXPECTED = {
    GOOD: "SENT",
    LATER: "SENT",
    POISON: "FAILED",
    FIREWALLED: "FAILED",
    RETRACTED: "RETRACTED",
    BARRED: "PENDING",
}

POISONS: tuple[dict[str, Any], ...] = (
    {"payload": "[1, 2]"},
    {"payload": '{"n": ' + "9" * 5000 + "}"},
    {"payload": '{"x": ' * 2000 + "1" + "}" * 2000},
    {"recipients": []},
    {"recipients": [None]},
    {"workflow": "chaos-draft"},
    {"workflow": "chaos-unknown-to-novu"},
    {"workflow": None},
)

INSERT = """
insert into notify.ent_notification (name, description, publish_status, notification_workflow_id, payload, recipients,
  overrides, tags, enterprise_id, scheduled_for)
select r.name, r.kind, case when r.kind = 'draft' then 'DRAFT' else 'PUBLISH' end::shared_types.publish_status,
  (select id from notify.ent_notification_workflow w where w.workflow_key = r.workflow), r.payload::jsonb,
  r.recipients, '{"email": {"subject": "chaos"}}', array['chaos', r.kind], r.enterprise,
  clock_timestamp() + r.delay * interval '1 s'
from jsonb_to_recordset(%s::jsonb) r (name text, kind text, workflow text, payload text, recipients uuid[],
  enterprise uuid, delay double precision)
where not exists (
  select from notify.ent_notification n where n.name = r.name and n.enterprise_id = r.enterprise)
"""

THOUGHTS = {
    # Repeatable, because their answer may be lost: a second run finds nothing left to do, or does no harm.
    "retract": "update notify.ent_notification set notification_status = 'RETRACTED', description = 'retracted',"
    " retracted_at = clock_timestamp(), retraction_reason = 'chaos' where name = %s"
    " and description in ('good', 'later')",
    "resend": "update notify.ent_notification set notification_status = 'PENDING' where name = %s"
    " and notification_status = 'SENT'",
    "edit": "update notify.ent_notification set payload = '{\"edited\": true}' where name = %s"
    " and description in ('good', 'later')",
    # A row still to come, so that no call of this generation can have left.
    "reschedule": "update notify.ent_notification set scheduled_for = scheduled_for + interval '2 s' where name = %s"
    " and description = 'later' and notification_status = 'PENDING'"
    " and scheduled_for > clock_timestamp() + interval '1 s'",
    "publish": "update notify.ent_notification set publish_status = 'PUBLISH', description = 'good' where name = %s"
    " and description = 'draft'",
}


@dataclass(frozen=True)
class Step:
    """One thing a producer does, at a time of the run."""

    at: float
    what: str
    rows: tuple[dict[str, Any], ...] = ()
    name: str = ""


def steps(seed: str, rows: int, seconds: float) -> list[Step]:
    """Return everything the producers do, in order of time."""
    dice = Random(f"{seed}/load")
    sizes = batch_sizes(dice, rows)
    done: list[Step] = []
    number = 0
    for size in sizes:
        at = dice.uniform(0, seconds)
        batch = tuple(row(dice, number + place) for place in range(size))
        number += size
        done.append(Step(at, "insert", batch))
        done += [thought for each in batch if (thought := second_thought(dice, at, each))]
    return sorted(done, key=lambda step: step.at)


def batch_sizes(dice: Random, rows: int) -> list[int]:
    """Return how many rows come together: mostly one to three, sometimes a burst."""
    sizes: list[int] = []
    while (left := rows - sum(sizes)) > 0:
        kind = dice.random()
        size = dice.randint(1, 3) if kind < 0.7 else dice.randint(20, 100) if kind < 0.9 else dice.randint(200, 800)
        sizes.append(min(size, left, math.ceil(rows / 10)))
    return sizes


def row(dice: Random, number: int, kinds: tuple[float, ...] = (89.7, 6, 2, 2, 0.2, 0.1)) -> dict[str, Any]:
    """Return one row; `kinds` weighs good, later, draft, poison, firewalled and barred ones."""
    people = dice.choices((1, dice.randint(2, 5), dice.randint(12, 30)), (85, 14, 1))[0]
    kind = dice.choices((GOOD, LATER, DRAFT, POISON, FIREWALLED, BARRED), kinds)[0]
    plain = {
        "name": f"chaos {number}",
        "kind": kind,
        "workflow": FIREWALLED_WORKFLOW if kind == FIREWALLED else "default-in-app",
        "payload": json.dumps({"n": number, "text": "x" * dice.randrange(200)}),
        "recipients": [str(UUID(int=dice.getrandbits(128))) for _ in range(people)],
        "enterprise": str(UUID(int=dice.randrange(TENANTS))),
        "delay": dice.uniform(1, 20) if kind == LATER else None,
    }
    return plain | (dice.choice(POISONS) if kind == POISON else {})


def second_thought(dice: Random, at: float, row: dict[str, Any]) -> Step | None:
    """Return what the owner does to this row later, if anything."""
    after = at + dice.choice((0.02, 0.3, 2.0)) * dice.random()
    if row["kind"] == DRAFT:
        return Step(after, "publish", name=row["name"])
    if dice.random() > 0.06:
        return None
    return Step(after, dice.choice(("retract", "resend", "edit", "reschedule")), name=row["name"])


async def produce(environment: ChaosEnvironment, plan: list[Step]) -> None:
    """Do every step when it is due, later where the database is away; then trickle until the last fault."""
    await workflows(environment)
    for step in plan:
        await asyncio.sleep(max(0.0, step.at - environment.seconds()))
        if step.what == "insert":
            await environment.rows(INSERT, json.dumps(step.rows))
        else:
            await environment.rows(THOUGHTS[step.what], step.name)
    dice = Random("trickle")
    for number in itertools.count(sum(len(step.rows) for step in plan)):
        if environment.ending.is_set():
            return
        await environment.rows(INSERT, json.dumps([row(dice, number, (1, 0, 0, 0, 0, 0))]))
        await asyncio.sleep(0.3)


async def workflows(environment: ChaosEnvironment) -> None:
    """Make the workflow rows the notifications name."""
    for key, status in (
        ("default-in-app", "PUBLISH"),
        ("chaos-draft", "DRAFT"),
        ("chaos-unknown-to-novu", "PUBLISH"),
        (FIREWALLED_WORKFLOW, "PUBLISH"),
    ):
        await environment.rows(
            "insert into notify.ent_notification_workflow (name, workflow_key, workflow_type, publish_status,"
            " default_channels) values (%s, %s, 'STATIC', %s, '{IN_APP}') on conflict (workflow_key) do nothing",
            f"chaos {key}",
            key,
            status,
        )
