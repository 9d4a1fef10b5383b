"""Each invariant is seen red once: a planted fault it has to find, and no other invariant's."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from dispatcher.devstack import postgres
from tests.support.invariants import INVARIANTS, find_violations

HEALTHY = """
insert into notify.ent_notification_workflow (name, workflow_key, workflow_type) values ('w', 'planted', 'STATIC');
insert into notify.ent_notification (name, publish_status, notification_status, notification_workflow_id, payload,
  recipients, created_at, error_details)
select 'n', 'PUBLISH', 'SENT', id, '{}', array['6fa459ea-ee8a-4ca4-894e-db77e160355e'::uuid],
  now() - interval '1 hour', '{"outcome": "SENT"}'
from notify.ent_notification_workflow where workflow_key = 'planted';
insert into dispatcher.delivery (notification_id, birth, generation, fence, attempts, first_claimed_at, claimed_at,
  settled_at)
select id, 'b', 1, 2, 1, now(), now(), now() from notify.ent_notification;
insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, state, attempts)
select id, 1, '6fa459ea-ee8a-4ca4-894e-db77e160355e', 0, 'tx', 'accepted', 1 from notify.ent_notification;
insert into oracle.call values (1, 'tx', '6fa459ea-ee8a-4ca4-894e-db77e160355e', now() - interval '2 s',
  now() - interval '1 s');
insert into oracle.effect values ('tx', '6fa459ea-ee8a-4ca4-894e-db77e160355e', 1);
truncate oracle.audit;
insert into oracle.audit (id, old_status, new_status, generation, ours)
select id, old_status, new_status, 1, true from notify.ent_notification,
  (values ('PENDING', 'PROCESSING'), ('PROCESSING', 'SENT')) step (old_status, new_status);
"""
QUIETLY = "set dispatcher.quiet = on; "
PLANTED = {
    "I1": "update notify.ent_notification set notification_status = 'PENDING'",
    "I2": "update oracle.effect set accepted = 2",
    "I3": "insert into oracle.call select 2, transaction_id, subscriber, started_at + interval '0.5 s', ended_at"
    " from oracle.call; update dispatcher.recipient set attempts = 2",
    "I4": "insert into oracle.call select 2, transaction_id, subscriber, ended_at, ended_at from oracle.call",
    "I5": "update dispatcher.recipient set recipient = 'somebody else'",
    "I6": "update notify.ent_notification set notification_status = 'FAILED'",
    "I7": "truncate oracle.effect",
    "I8": "insert into oracle.audit (id, old_status, new_status, generation, ours)"
    " select id, 'RETRACTED', 'SENT', 1, true from notify.ent_notification",
    "I9": "update notify.ent_notification set scheduled_for = now() - interval '1.5 s'",
    "I10": "insert into oracle.audit (id, at, old_status, new_status, generation, ours)"
    " select id, now() - interval '10 s', 'SENT', 'RETRACTED', 1, false from notify.ent_notification;"
    " update dispatcher.recipient set last_called_at = now() - interval '2 s';"
    " update oracle.audit set at = now() where new_status <> 'RETRACTED'",
    "I11": "insert into oracle.gate (id, at, open) select id, now() - interval '10 s', false"
    " from notify.ent_notification; update dispatcher.recipient set last_called_at = now() - interval '2 s'",
    "I12": "update dispatcher.delivery set lease_owner = 'gone', lease_until = now() - interval '31 s'",
    "I13": QUIETLY + "update notify.ent_notification set payload = '{\"changed\": true}'",
    "I14": "delete from oracle.call",
    "I15": "select pg_advisory_lock(15)",
}
ALSO = {
    "an unsent recipient counted as sent": ("I6", "update dispatcher.recipient set state = 'unknown'"),
    "a second identity for one recipient": (
        "I2",
        (
            "insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, state,"
            " attempts) select notification_id, 1, recipient || ' ', 1, 'tx2', 'accepted', 1 from dispatcher.recipient;"
            " insert into oracle.effect values ('tx2', '6fa459ea-ee8a-4ca4-894e-db77e160355e', 1);"
            " alter table dispatcher.recipient drop constraint recipient_pkey;"
            " update dispatcher.recipient set recipient = trim(recipient)"
        ),
    ),
    "sent again in the same generation": (
        "I8",
        (
            "insert into oracle.audit (id, old_status, new_status, generation, ours)"
            " select id, 'PENDING', 'PROCESSING', 1, true from notify.ent_notification"
        ),
    ),
    "a call after the outcome": (
        "I4",
        (
            "update dispatcher.recipient set attempts = 2; insert into oracle.call"
            " select 2, transaction_id, subscriber, now() + interval '1 s', now() + interval '2 s' from oracle.call"
        ),
    ),
    "claimed after its retraction": (
        "I10",
        (
            "update notify.ent_notification set notification_status = 'RETRACTED',"
            " retracted_at = now() - interval '1 s'; update dispatcher.delivery set claimed_at = now()"
        ),
    ),
    "cancelled here, and still there": (
        "I7",
        "update dispatcher.recipient set state = 'cancelled', outcome = 'removed'",
    ),
    "a call that is in no book": (
        "I14",
        (
            "insert into oracle.call select 2, 'nobody''s', subscriber, ended_at + interval '1 s',"
            " ended_at + interval '2 s' from oracle.call"
        ),
    ),
    "tags taken away": ("I13", QUIETLY + "update notify.ent_notification set tags = '{}'"),
    "PROCESSING that nobody holds": ("I12", "update notify.ent_notification set notification_status = 'PROCESSING'"),
}


@pytest.fixture
async def planted(url: str):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(HEALTHY.encode())
        yield connection


async def test_healthy_database_has_no_violation(planted: psycopg.AsyncConnection[Any]):
    assert await find_violations(planted) == {}


def test_every_invariant_has_a_planted_fault():
    assert {name.split()[0] for name in INVARIANTS} == set(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
async def test_planted_fault_violates_its_invariant(planted: psycopg.AsyncConnection[Any], name: str):
    await planted.execute(PLANTED[name].encode())
    assert name in {found.split()[0] for found in await find_violations(planted)}


@pytest.mark.parametrize("fault", ALSO)
async def test_other_faults_are_found(planted: psycopg.AsyncConnection[Any], fault: str):
    name, statement = ALSO[fault]
    await planted.execute(statement.encode())
    assert name in {found.split()[0] for found in await find_violations(planted)}


async def test_forgotten_transaction_is_found(planted: psycopg.AsyncConnection[Any], url: str):
    async with await psycopg.AsyncConnection.connect(url) as forgotten:
        await forgotten.execute("select 1")
        [found] = (await find_violations(planted)).values()
        assert "idle in transaction" in {row[1] for row in found}
    assert await find_violations(planted) == {}


async def test_full_notify_queue_is_found(stack_folder: Path):
    statement = next(text for name, text in INVARIANTS.items() if name.startswith("I15"))
    with postgres.run_postgres(stack_folder / "narrow", settings={"max_notify_queue_pages": "64"}) as server:
        async with (
            await psycopg.AsyncConnection.connect(server.url()) as deaf,
            await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection,
        ):
            await deaf.execute("listen somewhere")
            await deaf.commit()
            await deaf.execute(
                "select 1"
            )  # a NOTIFY in an open transaction is not delivered, and the queue cannot shrink
            for number in range(10):
                await connection.execute("select pg_notify('somewhere', repeat('x', 7000) || %s)", [str(number)])
            rows = await (await connection.execute(statement.encode(), {})).fetchall()
            assert "queue" in {row[0] for row in rows}
