"""Plays the story as an application would: plain SQL against the outbox, and then only watching.

Due times are the database's. Nothing here knows how the dispatcher works.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import anyio
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from dispatcher.devstack.demo.evidence import Row, ask, look
from dispatcher.devstack.demo.story import STORY, TENANT, UNKNOWN_KEY, Step

LOOK_SECONDS = 0.1
LATE_SECONDS = 0.5
"""So long after a retracted row's due time a wrong sending would have shown."""

UNKNOWN = """
insert into notify.ent_notification_workflow (name, workflow_key, workflow_type, publish_status, default_channels)
values ('Lift maintenance', %s, 'STATIC', 'PUBLISH', array['IN_APP']::shared_types.notification_channel_type[])
returning id
"""
WRITE = """
insert into notify.ent_notification (name, publish_status, notification_workflow_id, enterprise_id, payload, overrides,
  tags, recipients, scheduled_for)
select %(key)s || ' ' || i, %(publish)s::shared_types.publish_status, w.id, %(tenant)s, %(payload)s, %(overrides)s,
  %(tags)s::text[], (%(recipients)s::uuid[])[(i - 1) * %(each)s::integer + 1 : i * %(each)s::integer],
  clock_timestamp() + make_interval(secs => %(due_in)s::double precision)
from notify.ent_notification_workflow w, generate_series(%(first)s::integer, %(last)s::integer) i
where w.workflow_key = %(workflow)s
returning id, xmin::text, recipients::text[]
"""
ACTS = {
    "publish": """
update notify.ent_notification set publish_status = 'PUBLISH' where id = any(%s) returning id, xmin::text
""",
    "retract": """
update notify.ent_notification
set notification_status = 'RETRACTED', retracted_at = clock_timestamp(), retraction_reason = 'no longer true'
where id = any(%s) and notification_status = 'PENDING' returning id, xmin::text
""",
}
NOW = "select extract(epoch from clock_timestamp() - %s)::double precision"

Tell = Callable[[Mapping[int, Row]], None]


class Play:
    """One performance of the story on one database."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.rows: dict[int, Row] = {}
        self._connection = connection
        self._recipients = {step.key: [str(uuid4()) for _ in range(step.rows * step.recipients)] for step in STORY}

    @property
    def refused(self) -> list[str]:
        """The subscribers that this Novu must not take: the last ones of each row that has some."""
        return [name for step in STORY for row in range(step.rows) for name in self._of(step, row)[taken(step) :]]

    def _of(self, step: Step, row: int) -> list[str]:
        return self._recipients[step.key][row * step.recipients : (row + 1) * step.recipients]

    async def perform(self, tell: Tell) -> None:
        """Write everything at its time, and watch until nothing more can happen; `tell` hears of every look."""
        await ask(self._connection, UNKNOWN, [UNKNOWN_KEY])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._perform_all)
            while not await self._over():
                tell(self.rows)
                await anyio.sleep(LOOK_SECONDS)
        tell(self.rows)

    async def _perform_all(self) -> None:
        start = time.monotonic()
        for at, step, act in sorted(cues(), key=lambda cue: cue[0]):
            await anyio.sleep(max(0.0, start + at - time.monotonic()))
            await act(self, step)

    async def write(self, step: Step) -> None:
        """Insert a step's rows."""
        groups = [(i, i) for i in range(1, step.rows + 1)] if step.apart else [(1, step.rows)]
        for first, last in groups:
            await self._insert(step, first, last)
            await anyio.sleep(step.apart)

    async def _insert(self, step: Step, first: int, last: int) -> None:
        parameters = {
            "key": step.key,
            "publish": "PUBLISH" if step.published else "DRAFT",
            "tenant": TENANT,
            "payload": Jsonb(step.payload),
            "overrides": None if step.overrides is None else Jsonb(step.overrides),
            "tags": list(step.tags) or None,
            "recipients": self._recipients[step.key],
            "each": step.recipients,
            "due_in": step.due_in,
            "workflow": step.workflow,
            "first": first,
            "last": last,
        }
        for id_, xid, names in await ask(self._connection, WRITE, parameters):
            self.rows[id_] = Row(step, id_, xid, tuple(names[: taken(step)]), tuple(names[taken(step) :]))

    async def act(self, step: Step) -> None:
        """Do what the application does later to a step's rows."""
        assert step.then is not None  # noqa: S101  (cues() asks only for steps that have one)
        ids = [row.id for row in self.rows.values() if row.step is step]
        for id_, xid in await ask(self._connection, ACTS[step.then.name], [ids]):
            self.rows[id_].xid = xid

    async def _over(self) -> bool:
        """Look, and say whether all rows are written, final and past their time."""
        await look(self._connection, self.rows)
        if len(self.rows) < sum(step.rows for step in STORY):
            return False
        if not all(row.final for row in self.rows.values()):
            return False
        last_due = max(row.due_at for row in self.rows.values() if row.due_at is not None)
        [(since,)] = await ask(self._connection, NOW, [last_due])
        return since > LATE_SECONDS


def taken(step: Step) -> int:
    """Return how many of a row's recipients this Novu would take."""
    return step.recipients - step.refused


def cues() -> list[tuple[float, Step, Callable[[Play, Step], Any]]]:
    """Return what happens when."""
    acts = [(step.then.at, step, Play.act) for step in STORY if step.then is not None]
    return [(step.at, step, Play.write) for step in STORY] + acts
