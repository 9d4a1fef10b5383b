"""An upgrade of a ledger that commit 0b5b0c9 wrote: nothing in it changes, and every row goes on from where it was.

`ledgers/0b5b0c9.sql` is what pg_dump printed after that version's `dispatcher run` was killed: two rows SENT, one of
them PENDING again; a row whose retry is due, a dead letter, a row to be cancelled at Novu, a retraction that nobody has
noticed, a row whose call is open, a row for the year 2999, a new one.
"""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import inspect, install, plan, uninstall
from dispatcher.models.notification import RecipientState
from tests.install.live_database import Database
from tests.support.databases import create_database
from tests.support.outbox_fixture import LEASE, OutboxFixture, ids_of, open_outbox_fixture
from tests.support.repository import ROOT

DUMP = ROOT / "tests/install/ledgers/0b5b0c9.sql"
SENT, SENT_TO_THREE, RETRY, DEAD, CANCEL, RETRACTED, CALLED, LATER, NEW = range(1, 10)
# As if the dump had been made a moment ago: leases and retries are measured by the clock.
TO_NOW = """
do $$
declare
  ago interval := (select clock_timestamp() - max(seen_at) from dispatcher.node);
  at record;
begin
  for at in select table_name, column_name from information_schema.columns
    where table_schema = 'dispatcher' and data_type = 'timestamp with time zone'
  loop
    execute format('update dispatcher.%I set %I = %I + $1', at.table_name, at.column_name, at.column_name) using ago;
  end loop;
end $$
"""
counter = itertools.count()
KEPT = ("installation", "delivery", "recipient", "node", "action")


@pytest.fixture
async def old(postgres_server: PostgresServer) -> Database:
    """A database with the dump."""
    database = Database(await create_database(postgres_server, f"old_ledger_{next(counter)}"))
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        await connection.execute(DUMP.read_bytes())
        await connection.execute(TO_NOW.encode())
    return database


@pytest.fixture
async def fixture(old: Database) -> AsyncIterator[OutboxFixture]:
    """The outbox module of this version on the upgraded ledger."""
    await install(old.url)
    async with open_outbox_fixture(old.url) as fixture:
        yield fixture


async def rows_of(database: Database, table: str) -> list[dict[str, Any]]:
    return [row for (row,) in await database.run(f"select to_jsonb(t) from dispatcher.{table} t order by to_jsonb(t)")]


async def test_f220_upgrade_keeps_every_value_of_an_old_ledger(old: Database):
    before = {table: await rows_of(old, table) for table in KEPT}
    assert {len(before["delivery"]), len(before["recipient"])} == {7, 10}
    found, text = await plan(old.url)
    assert {each.problem for each in found} == {"missing", "changed", "superseded"}
    assert [line for line in text.splitlines() if "drop " in line] == [
        'drop index concurrently if exists "notify"."ent_notification_dispatcher_immediate";'
    ]
    report = await install(old.url)
    assert report.remaining == []
    assert await inspect(old.url) == []
    for table, rows in before.items():
        after = await rows_of(old, table)
        assert sorted(map(str, rows)) == sorted(str({name: row[name] for name in rows[0]}) for row in after)
    assert (await install(old.url)).changed == []


async def test_f220_rows_of_an_old_ledger_go_on(fixture: OutboxFixture):
    assert set(ids_of(await fixture.claim())) == {SENT, NEW}, "one is sent again; the retry is not due yet"
    assert [(await fixture.head(row))["generation"] for row in (SENT, NEW)] == [2, 1]
    await fixture.rows("update dispatcher.delivery set next_attempt_at = clock_timestamp() where notification_id = 3")
    assert ids_of(await fixture.claim()) == [RETRY]
    [row] = await fixture.acquire(RETRY)
    assert sorted(each.state for each in row.recipients) == [RecipientState.ACCEPTED, RecipientState.UNKNOWN]
    assert (await fixture.head(RETRY))["generation"] == 1
    for each in row.recipients:
        each.state, each.outcome = RecipientState.ACCEPTED, "processed"
    await fixture.settle(row, RecipientState.ACCEPTED)
    assert await fixture.status(RETRY) == "SENT"
    assert [await fixture.status(each) for each in (SENT_TO_THREE, DEAD, LATER)] == ["SENT", "FAILED", "PENDING"]


async def test_f220_open_call_of_an_old_ledger_keeps_its_identity(fixture: OutboxFixture):
    [before] = await fixture.entries(CALLED)
    assert before["state"] == "sending"
    await fixture.expire(CALLED)
    [expired] = await fixture.outbox.find_expired(10)
    assert expired.ids == [CALLED]
    assert await fixture.outbox.rescue(expired, LEASE)
    [row] = await fixture.acquire(CALLED)
    [recipient] = row.recipients
    assert (recipient.transaction_id, recipient.epoch) == (before["transaction_id"], before["epoch"])
    assert recipient.state in {RecipientState.SENDING, RecipientState.UNKNOWN}, "looked up or repeated, never new"
    await fixture.settle(row, RecipientState.ACCEPTED)
    assert await fixture.status(CALLED) == "SENT"


async def test_f220_retractions_of_an_old_ledger_are_cancelled(fixture: OutboxFixture):
    assert await fixture.outbox.detect_retracted(10) == {RETRACTED: 1}
    await fixture.rows("update dispatcher.recipient set cancel_at = clock_timestamp() where cancel_at is not null")
    cancels = await fixture.outbox.acquire_cancels(10, timedelta(minutes=1))
    assert {cancel.notification_id for cancel in cancels} == {CANCEL, RETRACTED}


async def test_f220_dead_letter_of_an_old_ledger_is_sent_again_on_request(fixture: OutboxFixture):
    assert (await fixture.head(DEAD))["dead_lettered_at"]
    await fixture.change(DEAD, notification_status="PENDING")
    assert DEAD in ids_of(await fixture.claim())
    head = await fixture.head(DEAD)
    assert (head["generation"], head["dead_lettered_at"]) == (2, None)


async def test_f220_superseded_index_is_dropped_when_its_successor_is_built(old: Database):
    """The previous version's claim can use either of them, so it always has one."""
    said: list[str] = []
    await install(old.url, say=said.append)
    assert [line for line in said if " index " in line] == [
        "building index ent_notification_dispatcher_new_rows",
        "dropping index ent_notification_dispatcher_immediate, which is superseded",
    ]
    indexes = "select indexrelid::regclass::text from pg_index where indrelid = 'notify.ent_notification'::regclass"
    assert ("notify.ent_notification_dispatcher_immediate",) not in await old.run(indexes)
    await uninstall(old.url)
    assert not [name for (name,) in await old.run(indexes) if "_dispatcher_" in name]
