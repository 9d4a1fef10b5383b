"""Row-level security that hides rows is an error, not an empty outbox."""

import psycopg
import pytest

from dispatcher.postgres.pool import open_pool
from tests.support.outbox_fixture import OutboxFixture

ROLE = "hidden_from"
OUTBOX = "notify.ent_notification"


async def test_rows_hidden_by_a_policy_are_an_error(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows(f"create role {ROLE} login")
    try:
        await outbox_fixture.rows(f"grant usage on schema notify to {ROLE}")
        await outbox_fixture.rows(f"grant select on {OUTBOX} to {ROLE}")
        await outbox_fixture.rows(f"alter table {OUTBOX} enable row level security")
        pool = await open_pool(outbox_fixture.url.replace("//postgres@", f"//{ROLE}@"))
        try:
            async with pool.connection() as connection:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                    await connection.execute(f"select from {OUTBOX}".encode())
        finally:
            await pool.close()
    finally:
        await outbox_fixture.rows(f"drop owned by {ROLE}")
        await outbox_fixture.rows(f"drop role {ROLE}")
