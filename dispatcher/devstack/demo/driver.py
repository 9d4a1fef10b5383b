"""Writes the scenario's rows as an application would, with plain SQL on the outbox, then only reads their state.

Due times are those of the database's clock. Nothing here depends on how the dispatcher works.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from dispatcher.devstack.demo.results import DemoRow, fetch_rows, refresh_rows
from dispatcher.devstack.demo.scenario import SCENARIO, TENANT, UNKNOWN_KEY, Action, Step

ROW_POLL_SECONDS = 0.1
LATE_SEND_SECONDS = 0.5
"""A retracted row that was sent by mistake would have been sent within this time after it was due."""

INSERT_UNKNOWN_WORKFLOW = """
insert into notify.ent_notification_workflow (name, workflow_key, workflow_type, publish_status, default_channels)
values ('Lift maintenance', %s, 'STATIC', 'PUBLISH', array['IN_APP']::shared_types.notification_channel_type[])
returning id
"""
INSERT_ROWS = """
insert into notify.ent_notification (name, publish_status, notification_workflow_id, enterprise_id, payload, overrides,
  tags, recipients, scheduled_for)
select %(key)s || ' ' || i, %(publish)s::shared_types.publish_status, w.id, %(tenant)s, %(payload)s, %(overrides)s,
  %(tags)s::text[], (%(recipients)s::uuid[])[(i - 1) * %(each)s::integer + 1 : i * %(each)s::integer],
  clock_timestamp() + make_interval(secs => %(due_in)s::double precision)
from notify.ent_notification_workflow w, generate_series(%(first)s::integer, %(last)s::integer) i
where w.workflow_key = %(workflow)s
returning id, xmin::text, recipients::text[]
"""
ACTION_STATEMENTS = {
    "publish": """
update notify.ent_notification set publish_status = 'PUBLISH' where id = any(%s) returning id, xmin::text
""",
    "retract": """
update notify.ent_notification
set notification_status = 'RETRACTED', retracted_at = clock_timestamp(), retraction_reason = 'no longer true'
where id = any(%s) and notification_status = 'PENDING' returning id, xmin::text
""",
}
SECONDS_SINCE = "select extract(epoch from clock_timestamp() - %s)::double precision"

OnRows = Callable[[Mapping[int, DemoRow]], None]
Event = Callable[[], Awaitable[None]]


class Driver:
    """Runs the scenario once, on one database."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.rows: dict[int, DemoRow] = {}
        self._connection = connection
        self._recipients = {step.key: [str(uuid4()) for _ in range(step.rows * step.recipients)] for step in SCENARIO}

    @property
    def refused(self) -> list[str]:
        """The subscribers that the fake Novu has to refuse: the last `step.refused` recipients of each row."""
        return [
            name
            for step in SCENARIO
            for row in range(step.rows)
            for name in self._recipients_of(step, row)[accepted_count(step) :]
        ]

    def _recipients_of(self, step: Step, row: int) -> list[str]:
        return self._recipients[step.key][row * step.recipients : (row + 1) * step.recipients]

    async def run(self, on_rows: OnRows) -> None:
        """Write each row and run each action at its time, then wait until every row is final and past its due time.

        `on_rows` is called with the current rows about every 0.1 s.
        """
        await fetch_rows(self._connection, INSERT_UNKNOWN_WORKFLOW, [UNKNOWN_KEY])
        start = time.monotonic()
        for at, event in sorted(self._events(), key=lambda each: each[0]):
            while (ahead := start + at - time.monotonic()) > 0:
                await self._watch(on_rows, min(ahead, ROW_POLL_SECONDS))
            await event()
        while not await self._is_finished():
            await self._watch(on_rows, ROW_POLL_SECONDS)

    def _events(self) -> Iterator[tuple[float, Event]]:
        """Yield each event with its time, in seconds from the start."""
        for step in SCENARIO:
            if step.apart:
                yield from (
                    (step.at + i * step.apart, partial(self._insert, step, i + 1, i + 1)) for i in range(step.rows)
                )
            else:
                yield step.at, partial(self._insert, step, 1, step.rows)
            if step.then is not None:
                yield step.then.at, partial(self._run_action, step, step.then)

    async def _watch(self, on_rows: OnRows, seconds: float) -> None:
        await anyio.sleep(seconds)
        await refresh_rows(self._connection, self.rows)
        on_rows(self.rows)

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
        for id_, xid, names in await fetch_rows(self._connection, INSERT_ROWS, parameters):
            self.rows[id_] = DemoRow(
                step, id_, xid, tuple(names[: accepted_count(step)]), tuple(names[accepted_count(step) :])
            )

    async def _run_action(self, step: Step, action: Action) -> None:
        """Run an application's later change on the rows of a step."""
        ids = [row.id for row in self.rows.values() if row.step is step]
        for id_, xid in await fetch_rows(self._connection, ACTION_STATEMENTS[action.name], [ids]):
            self.rows[id_].xid = xid

    async def _is_finished(self) -> bool:
        """Return whether all rows are final and the last due time was more than `LATE_SEND_SECONDS` ago."""
        if not all(row.final for row in self.rows.values()):
            return False
        last_due = max(row.due_at for row in self.rows.values() if row.due_at is not None)
        [(since,)] = await fetch_rows(self._connection, SECONDS_SINCE, [last_due])
        return since > LATE_SEND_SECONDS


def accepted_count(step: Step) -> int:
    """Return how many of a row's recipients the fake Novu accepts."""
    return step.recipients - step.refused
