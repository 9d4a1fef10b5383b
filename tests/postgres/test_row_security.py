"""Where row-level security would hide rows from us, we hear of it instead of seeing an empty outbox."""

import psycopg
import pytest
from ledger_books import Books

from dispatcher.postgres.pool import open_pool

ROLE = "hidden_from"
OUTBOX = "notify.ent_notification"


async def test_rows_that_a_policy_hides_are_an_error(books: Books):
    await books.rows(f"create role {ROLE} login")
    try:
        await books.rows(f"grant usage on schema notify to {ROLE}")
        await books.rows(f"grant select on {OUTBOX} to {ROLE}")
        await books.rows(f"alter table {OUTBOX} enable row level security")
        pool = await open_pool(books.url.replace("//postgres@", f"//{ROLE}@"))
        try:
            async with pool.connection() as connection:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                    await connection.execute(f"select from {OUTBOX}".encode())
        finally:
            await pool.close()
    finally:
        await books.rows(f"drop owned by {ROLE}")
        await books.rows(f"drop role {ROLE}")
