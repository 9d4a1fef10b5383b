"""What owners do to rows at every stage: edit, delete, reschedule, unpublish, set a status by hand."""

import asyncio
import json
import time
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from facts import effects_are_exactly, on_the_wire, slow_call
from house import House, eventually
from proxy import FaultProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
ANA, BO = UUID(int=1), UUID(int=2)


async def change(house: House, notification_id: int, changes: str) -> None:
    await house.rows(f"update notify.ent_notification set {changes} where id = %s", notification_id)


async def sent_titles(house: House) -> list[tuple[str, str]]:
    """Return (recipient, title) of each event that reached Novu, in order."""
    found: list[tuple[str, str]] = []
    for request in await house.novu.requests():
        if request.method == "POST":
            body: Any = json.loads(await house.novu.body(request.seq) or b"{}")
            found += [(event["to"], event["payload"]["title"]) for event in body.get("events", [body])]
    return found


async def refused_once(house: House) -> None:
    """Wait until a first try ended without effect."""

    async def ended() -> bool:
        return await house.value("select count(*) > 0 from dispatcher.recipient where outcome = 'http_503'")

    await eventually(ended, f"a first try without effect; {house.last_words()}")


async def let_go(house: House) -> None:
    async def free() -> bool:
        return await house.value("select count(*) = 0 from dispatcher.delivery where lease_until is not null")

    await eventually(free, f"nothing held; {house.last_words()}")


async def generation(house: House, notification_id: int) -> int:
    return await house.value("select generation from dispatcher.delivery where notification_id = %s", notification_id)


async def test_f120_edited_between_claim_and_take(house: House, to_temporal: FaultProxy):
    await house.running(TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}", **QUICK)
    row = await house.notify(payload='{"title": "draft"}', publish_status="DRAFT", recipients=[ANA])
    await change(house, row, """payload = '{"title": "before"}'""")
    to_temporal.stall()
    await change(house, row, "publish_status = 'PUBLISH'")

    async def claimed() -> bool:
        return await house.status(row) == "PROCESSING"

    await eventually(claimed, "a claim whose start waits")
    await change(house, row, """payload = '{"title": "after"}'""")
    assert (await house.novu.summary()).effects == 0
    await to_temporal.heal()
    assert await house.final(row) == ["SENT"]
    assert await sent_titles(house) == [(str(ANA), "after")], "what is edited before the first call is sent as edited"


async def test_f120_edited_in_flight_finishes_as_read_and_a_resend_takes_the_new(house: House):
    await slow_call(house)
    await house.running(**QUICK)
    row = await house.notify(payload='{"title": "old"}', recipients=[ANA])
    await on_the_wire(house)
    await house.rows(
        """update notify.ent_notification set payload = '{"title": "new"}', recipients = %s where id = %s""",
        [ANA, BO],
        row,
    )
    at = time.time()
    assert await house.final(row) == ["SENT"]
    [request] = [request for request in await house.novu.requests() if request.method == "POST"]
    assert request.started_at < at < request.ended_at, "the edit did not meet the call on the wire"
    assert await sent_titles(house) == [(str(ANA), "old")]
    await change(house, row, "notification_status = 'PENDING'")
    assert await house.final(row) == ["SENT"]
    assert sorted((await sent_titles(house))[1:]) == [(str(ANA), "new"), (str(BO), "new")]
    assert await generation(house, row) == 2


async def test_f120_edited_after_a_try_without_an_outcome_is_looked_up_first(house: House):
    await house.novu.add_fault("reset_after", times=1)
    await house.running(**QUICK)
    row = await house.notify(payload='{"title": "old"}', recipients=[ANA])

    async def unknown() -> bool:
        return await house.value("select count(*) > 0 from dispatcher.recipient where state = 'unknown'")

    await eventually(unknown, "a call without an outcome")
    await change(house, row, """payload = '{"title": "new"}'""")
    assert await house.final(row, within=60) == ["SENT"]
    assert await house.novu.struck() == [1]
    assert await sent_titles(house) == [(str(ANA), "old")], "Novu has it: other bytes under its identity never leave"
    assert "found" in [outcome for (outcome,) in await house.rows("select outcome from dispatcher.recipient")]


async def test_f121_deleted_in_flight_and_between_tries(house: House):
    await house.novu.add_fault("status", recipient=str(BO), status=503, retry_after="2")
    await slow_call(house, ANA)
    await house.running(**QUICK)
    gone = await house.notify(recipients=[ANA])
    await on_the_wire(house)
    await house.rows("delete from notify.ent_notification where id = %s", gone)
    later = await house.notify(recipients=[BO])
    await refused_once(house)
    await house.rows("delete from notify.ent_notification where id = %s", later)
    await let_go(house)
    assert await house.novu.struck() == [1, 1], "no call after the row was gone"
    await effects_are_exactly(house, 1)
    trace = "select state, outcome from dispatcher.recipient order by notification_id"
    assert (await house.rows(trace))[0] == ("accepted", "processed"), "the ledger keeps the trace"
    assert len(await house.rows(trace)) == 2
    assert await house.final(await house.notify()) == ["SENT"]


async def test_f123_rescheduled_later_and_earlier_while_waiting(house: House):
    await house.running(**QUICK)
    soon, late = "clock_timestamp() + interval '1.5 s'", "clock_timestamp() + interval '1 hour'"
    postponed = await house.notify(publish_status="DRAFT")
    advanced = await house.notify(publish_status="DRAFT")
    await change(house, postponed, f"publish_status = 'PUBLISH', scheduled_for = {soon}")
    await change(house, advanced, f"publish_status = 'PUBLISH', scheduled_for = {late}")
    await change(house, postponed, f"scheduled_for = {late}")
    await change(house, advanced, f"scheduled_for = {soon}")
    assert await house.final(advanced) == ["SENT"]
    assert await house.status(postponed) == "PENDING"
    await effects_are_exactly(house, 1)
    late_by = await house.value(
        "select extract(epoch from first_called_at - scheduled_for)::float from dispatcher.recipient"
        " join notify.ent_notification n on n.id = notification_id"
    )
    assert 0 <= late_by < 5


async def test_f124_unpublished_and_deactivated_rows_wait(house: House):
    await house.novu.add_fault("status", recipient=str(BO), status=503, retry_after="2", times=1)
    await house.running(**QUICK)
    drafted = await house.notify(scheduled_for="2999-01-01", recipients=[ANA])
    await change(house, drafted, "publish_status = 'DRAFT'")
    await change(house, drafted, "scheduled_for = null")
    off = await house.notify(recipients=[BO])
    await refused_once(house)
    await change(house, off, "deactivated = true")

    async def handed_back() -> bool:
        return await house.status(off) == "PENDING"

    await eventually(handed_back, f"the row handed back; {house.last_words()}")
    await let_go(house)
    assert await house.status(drafted) == "PENDING"
    assert (await house.novu.summary()).effects == 0
    assert await house.novu.struck() == [1]
    await change(house, drafted, "publish_status = 'PUBLISH'")
    await change(house, off, "deactivated = false")
    assert await house.final(drafted, off) == ["SENT", "SENT"]
    await effects_are_exactly(house, 2)
    assert await generation(house, off) == 1


async def test_f125_pending_by_hand_after_an_outcome_is_a_new_sending(house: House):
    await house.novu.add_fault("status", recipient=str(BO), status=400, times=1, message="no")
    await house.running(**QUICK)
    sent, dead = await house.notify(recipients=[ANA]), await house.notify(recipients=[BO])
    assert await house.final(sent, dead) == ["SENT", "FAILED"]
    assert (await house.details(dead))["dead_letter"] is True
    for row in (sent, dead):
        await change(house, row, "notification_status = 'PENDING'")
    assert await house.final(sent, dead) == ["SENT", "SENT"]
    await effects_are_exactly(house, 3)
    assert [await generation(house, row) for row in (sent, dead)] == [2, 2]
    assert await house.value("select count(distinct transaction_id) from dispatcher.recipient") == 4


async def test_f125_a_failure_that_waits_for_its_retry_may_be_sent_at_once(house: House):
    """PENDING by the owner is a new sending, with all its tries before it, and takes the place of the retry."""
    await house.novu.add_fault("status", status=503, times=5)
    await house.running(**QUICK)
    row = await house.notify(recipients=[ANA])
    assert await house.final(row, within=60) == ["FAILED"]
    assert await house.novu.struck() == [5]
    assert await house.value("select next_attempt_at > now() + interval '30 s' from dispatcher.delivery")
    await change(house, row, "notification_status = 'PENDING'")
    assert await house.final(row) == ["SENT"]
    [[number, attempts, again]] = await house.rows(
        "select generation, attempts, next_attempt_at from dispatcher.delivery"
    )
    assert (number, attempts, again) == (2, 1, None)
    await effects_are_exactly(house, 1)


async def test_f126_two_writers_upsert_one_row(house: House):
    await house.running(**QUICK)
    workflow, number, rounds = await house.workflow(), 4711, 10
    upsert = (
        "insert into notify.ent_notification (id, name, publish_status, notification_workflow_id, payload, recipients)"
        " overriding system value values (%s, %s, 'PUBLISH', %s, %s, %s)"
        " on conflict (id) do update set payload = excluded.payload, updated_at = now()"
    )

    async def write(name: str) -> None:
        async with await psycopg.AsyncConnection.connect(house.url, autocommit=True) as writer:
            for each in range(rounds):
                payload = json.dumps({"title": f"{name} {each}"})
                await writer.execute(upsert, [number, name, workflow, payload, [ANA]])

    await asyncio.gather(write("one"), write("two"))
    assert await house.final(number) == ["SENT"]
    await effects_are_exactly(house, 1)
    assert await generation(house, number) == 1
    written = await house.value("select count(*) from notify.ent_notification where id = %s", number)
    assert written == 1


async def test_f127_a_status_written_by_hand(house: House):
    """PROCESSING that nobody holds is rescued, SENT is respected, before the claim and over a call on the wire."""
    await house.running(**QUICK)
    done = await house.notify(notification_status="SENT")
    lost = await house.notify(notification_status="PROCESSING")
    assert await house.final(lost) == ["SENT"]
    adopted = await house.value("select count(*) from oracle.audit where id = %s and ours", lost)
    assert adopted >= 1
    assert await house.status(done) == "SENT"
    await effects_are_exactly(house, 1)
    await slow_call(house)
    row = await house.notify()
    await on_the_wire(house)
    await change(house, row, "notification_status = 'SENT'")
    await let_go(house)
    assert await house.status(row) == "SENT"
    assert await house.details(row) is None, "an outcome is not written over the owner's status"
    await effects_are_exactly(house, 2)


async def test_f128_an_id_that_comes_back_is_another_notification(house: House):
    await house.running(**QUICK)
    first = await house.notify(recipients=[ANA])
    assert await house.final(first) == ["SENT"]
    await house.rows("truncate notify.ent_notification restart identity cascade")
    second = await house.notify(recipients=[ANA], name=f"n {uuid4()}")
    assert second == first
    assert await house.final(second) == ["SENT"]
    await effects_are_exactly(house, 2)
    assert await generation(house, second) == 2
