"""The application that writes notifications: one transaction inserts rows and announces them as a contestant needs."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from psycopg import AsyncConnection

Announce = Callable[[AsyncConnection, list[int], list[str]], Awaitable[object]]
"""Announces rows to a contestant inside the writer's transaction: (connection, ids, recipients)."""

PAYLOAD = '{"title": "Lift 3 is out of order", "message": "Please use lift 1.", "floor": 3, "price": 1.10}'
INSERT = """
    insert into notify.ent_notification
      (name, publish_status, notification_workflow_id, payload, recipients, enterprise_id)
    select 'bench ' || recipient, 'PUBLISH',
      (select id from notify.ent_notification_workflow where workflow_key = 'default-in-app'),
      %s::jsonb, array[recipient], %s
    from unnest(%s::uuid[]) recipient
    returning id, recipients[1]::text
"""
ENTERPRISE = uuid.UUID("4c7b1f0e-52a1-4f7e-9d0a-3d5f0b6c8e21")


@dataclass(frozen=True, slots=True)
class Written:
    """Committed rows; `began` and `committed` in epoch seconds."""

    recipients: list[str]
    began: float
    committed: float
    """Right after COMMIT returned."""


async def write(
    connection: AsyncConnection, announce: Announce, rows: int, enterprise: uuid.UUID = ENTERPRISE
) -> Written:
    """Insert `rows` published rows in one statement, announce them, and commit."""
    recipients = [uuid.uuid4() for _ in range(rows)]
    began = time.time()
    async with connection.transaction():
        cursor = await connection.execute(INSERT, [PAYLOAD, enterprise, recipients])
        inserted = await cursor.fetchall()
        await announce(connection, [row[0] for row in inserted], [row[1] for row in inserted])
    return Written([row[1] for row in inserted], began, time.time())


async def finished(connection: AsyncConnection) -> int:
    """Return the number of final rows."""
    cursor = await connection.execute(
        "select count(*) from notify.ent_notification where notification_status in ('SENT', 'FAILED')"
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def committed_at(connection: AsyncConnection) -> dict[str, float]:
    """Return by recipient when the newest version of its row was committed, in epoch seconds of PostgreSQL's clock.

    No column says this: a contestant chooses itself which time it writes into one.
    """
    cursor = await connection.execute(
        "select recipients[1]::text, extract(epoch from pg_xact_commit_timestamp(xmin))::float8"
        " from notify.ent_notification"
    )
    return dict(await cursor.fetchall())
