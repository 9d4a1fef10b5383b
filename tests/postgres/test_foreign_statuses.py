"""Statuses that another program writes: each of ours, replaced by each of theirs, in work or not."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from dispatcher.claim.foreign_statuses import ForeignStatuses
from dispatcher.decisions.final_status import decide_status
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import LEASE, OutboxFixture, calls_of, ids_of, members_of

LABELS = ("PENDING", "PROCESSING", "SENT", "PARTIAL", "FAILED", "RETRACTED")
LATER = timedelta(hours=1)


async def settled(outbox_fixture: OutboxFixture, *states: RecipientState, retry_in: timedelta | None = None) -> int:
    """Return a row that ended with these states of its recipients."""
    row = await outbox_fixture.acquired(recipients=[uuid4() for _ in states])
    await settle(outbox_fixture, row, *states, retry_in=retry_in)
    return row.id


async def settle(
    outbox_fixture: OutboxFixture, row: Notification, *states: RecipientState, retry_in: timedelta | None = None
) -> None:
    """End a row in work with these states of its recipients."""
    outbox = await outbox_fixture.node("here")
    for recipient, state in zip(row.recipients, states, strict=True):
        recipient.state = state
    row.final_status = decide_status(row, retry_in)
    await outbox.settle(members_of(row), [row])


async def in_work(outbox_fixture: OutboxFixture) -> Notification:
    """Return a row with a call on its way."""
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    return row


async def sent(outbox_fixture: OutboxFixture) -> int:
    row = await in_work(outbox_fixture)
    await settle(outbox_fixture, row, RecipientState.ACCEPTED)
    return row.id


async def partial(outbox_fixture: OutboxFixture) -> int:
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    await settle(outbox_fixture, row, RecipientState.ACCEPTED, RecipientState.REFUSED)
    return row.id


async def retracted(outbox_fixture: OutboxFixture) -> int:
    row = await sent(outbox_fixture)
    await outbox_fixture.change(row, notification_status="RETRACTED")
    assert row in await outbox_fixture.outbox.detect_retracted(10)
    return row


async def waiting(outbox_fixture: OutboxFixture) -> int:
    return await settled(outbox_fixture, RecipientState.UNKNOWN, retry_in=LATER)


async def dead(outbox_fixture: OutboxFixture) -> int:
    return await settled(outbox_fixture, RecipientState.REFUSED)


ENDED: dict[str, tuple[str, Callable[[OutboxFixture], Awaitable[int]]]] = {
    "sent": ("SENT", sent),
    "partial": ("PARTIAL", partial),
    "waits for its retry": ("FAILED", waiting),
    "dead letter": ("FAILED", dead),
    "retracted": ("RETRACTED", retracted),
}


@pytest.fixture
async def outbox(outbox_fixture: OutboxFixture) -> OutboxStore:
    """The outbox of a node on a table that knows PARTIAL."""
    await outbox_fixture.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    return await outbox_fixture.node("here")


async def sweep(outbox: OutboxStore) -> tuple[int, int]:
    """Put statuses back and adopt, as a sweep does; return how many rows of each."""
    return await ForeignStatuses(outbox).put_back(), await outbox.adopt_orphans(LEASE, 100)


async def generation(outbox_fixture: OutboxFixture, row: int) -> int:
    return (await outbox_fixture.head(row))["generation"]


@pytest.mark.parametrize("theirs", LABELS)
@pytest.mark.parametrize("kind", ENDED)
async def test_f194_ended_row_gets_its_status_back(
    outbox_fixture: OutboxFixture, outbox: OutboxStore, kind: str, theirs: str
):
    ours, make = ENDED[kind]
    row = await make(outbox_fixture)
    await outbox_fixture.change(row, notification_status=theirs)
    wish = theirs in ("PENDING", "RETRACTED") and theirs != ours
    assert await sweep(outbox) == (int(theirs not in ("PENDING", "RETRACTED", ours)), 0)
    assert await outbox_fixture.status(row) == (theirs if wish else ours)
    claimed = ids_of(await outbox_fixture.claim(outbox))
    assert claimed == ([row] if theirs == "PENDING" else [])
    assert await generation(outbox_fixture, row) == (2 if claimed else 1)
    detected = await outbox.detect_retracted(10)
    assert (row in detected) == (theirs == "RETRACTED" != ours)


@pytest.mark.parametrize("theirs", [label for label in LABELS if label not in ("PENDING", "RETRACTED", "SENT")])
async def test_f194_status_is_put_back_once_for_each_generation(
    outbox_fixture: OutboxFixture, outbox: OutboxStore, theirs: str
):
    row = await sent(outbox_fixture)
    for put_back in (1, 0, 0):
        await outbox_fixture.change(row, notification_status=theirs)
        assert await sweep(outbox) == (put_back, 0)
    assert await outbox_fixture.status(row) == theirs
    await outbox_fixture.change(row, notification_status="PENDING")
    await outbox_fixture.claim(outbox)
    [again] = await outbox_fixture.acquire(row)
    await settle(outbox_fixture, again, RecipientState.ACCEPTED)
    await outbox_fixture.change(row, notification_status=theirs)
    assert await sweep(outbox) == (1, 0)
    assert (await outbox_fixture.status(row), again.generation) == ("SENT", 2)


@pytest.mark.parametrize("theirs", LABELS)
async def test_f194_status_written_over_a_row_in_work_is_replaced_by_its_outcome(
    outbox_fixture: OutboxFixture, outbox: OutboxStore, theirs: str
):
    row = await in_work(outbox_fixture)
    await outbox_fixture.change(row.id, notification_status=theirs)
    assert await sweep(outbox) == (0, 0)
    assert await outbox_fixture.status(row.id) == theirs
    await settle(outbox_fixture, row, RecipientState.ACCEPTED)
    await sweep(outbox)
    assert await outbox_fixture.status(row.id) == ("RETRACTED" if theirs == "RETRACTED" else "SENT")
    assert ids_of(await outbox_fixture.claim(outbox)) == []


@pytest.mark.parametrize("theirs", LABELS)
@pytest.mark.parametrize("before", ["never claimed", "handed back"])
async def test_f194_status_written_over_a_waiting_row_is_kept_or_taken_for_its_own(
    outbox_fixture: OutboxFixture, outbox: OutboxStore, before: str, theirs: str
):
    if before == "handed back":
        row = (released := await outbox_fixture.acquired()).id
        await outbox.release([released])
    else:
        row = await outbox_fixture.notify()
    await outbox_fixture.change(row, notification_status=theirs)
    assert await sweep(outbox) == (0, int(theirs == "PROCESSING"))
    assert await outbox_fixture.status(row) == theirs
    assert ids_of(await outbox_fixture.claim(outbox)) == ([row] if theirs == "PENDING" else [])
    if theirs in ("PENDING", "PROCESSING"):
        assert await generation(outbox_fixture, row) == 1


async def test_f194_pending_written_over_a_row_in_work_is_no_new_generation(
    outbox_fixture: OutboxFixture, outbox: OutboxStore
):
    row = await in_work(outbox_fixture)
    await outbox_fixture.change(row.id, notification_status="PENDING")
    assert ids_of(await outbox_fixture.claim(outbox)) == [row.id]
    await settle(outbox_fixture, row, RecipientState.ACCEPTED)  # fenced out
    assert (await generation(outbox_fixture, row.id), await outbox_fixture.status(row.id)) == (1, "PROCESSING")


async def test_f194_row_adopted_by_an_earlier_version_is_put_back_after_its_lease(
    outbox_fixture: OutboxFixture, outbox: OutboxStore
):
    row = await sent(outbox_fixture)
    await outbox_fixture.change(row, notification_status="PROCESSING")
    await outbox_fixture.rows(
        "update dispatcher.delivery set lease_owner = 'nobody', lease_until = clock_timestamp() - interval '1 s'"
    )
    assert await sweep(outbox) == (0, 0)
    [late] = await outbox.find_expired(10)
    assert await outbox.rescue(late, LEASE) is None
    assert await sweep(outbox) == (1, 0)
    assert await outbox_fixture.status(row) == "SENT"


async def test_f194_walk_takes_a_part_of_the_ledger_at_a_time(outbox_fixture: OutboxFixture, outbox: OutboxStore):
    rows = [await sent(outbox_fixture) for _ in range(5)]
    await outbox_fixture.rows("update notify.ent_notification set notification_status = 'FAILED'")
    walk = ForeignStatuses(outbox, heads=2)
    assert [await walk.put_back() for _ in range(4)] == [2, 2, 1, 0]
    assert {await outbox_fixture.status(row) for row in rows} == {"SENT"}
    await outbox_fixture.change(rows[4], notification_status="PROCESSING")
    await outbox_fixture.rows("update dispatcher.delivery set status_put_back_in = null")
    assert await walk.put_back() == 1, "PROCESSING is found at once, wherever the walk is"


async def test_f194_row_whose_table_refuses_our_status_does_not_hold_up_others(
    outbox_fixture: OutboxFixture, outbox: OutboxStore
):
    rows = [await sent(outbox_fixture) for _ in range(3)]
    await outbox_fixture.rows("update notify.ent_notification set notification_status = 'PROCESSING'")
    await outbox_fixture.rows(
        "alter table notify.ent_notification add constraint theirs"
        f" check (id <> {rows[1]} or notification_status = 'PROCESSING')"
    )
    assert await ForeignStatuses(outbox).put_back() == 2
    assert [await outbox_fixture.status(row) for row in rows] == ["SENT", "PROCESSING", "SENT"]
    assert await ForeignStatuses(outbox).put_back() == 0
    assert (await outbox_fixture.head(rows[1]))["status_put_back_in"] == 1, "it is tried once"


async def test_f194_rows_of_other_enterprises_are_left(outbox_fixture: OutboxFixture, outbox: OutboxStore):
    row = await sent(outbox_fixture)
    await outbox_fixture.change(row, notification_status="PROCESSING")
    picky = await outbox_fixture.node("picky", uuid4())
    assert await sweep(picky) == (0, 0)
    assert await sweep(outbox) == (1, 0)


async def test_f194_head_of_an_earlier_version_that_retracted_is_known(
    outbox_fixture: OutboxFixture, outbox: OutboxStore
):
    row = await retracted(outbox_fixture)
    await outbox_fixture.rows("update dispatcher.delivery set retracted_in = null")
    await outbox_fixture.change(row, notification_status="SENT")
    assert await sweep(outbox) == (1, 0)
    assert await outbox_fixture.status(row) == "RETRACTED"
