"""Owners change rows at every stage: they edit, delete, reschedule, unpublish and set a status by hand."""

import asyncio
import json
import time
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.faults.waits import effects_are_exactly, on_the_wire, slow_call
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
ANA, BO = UUID(int=1), UUID(int=2)


async def change(stack: Stack, notification_id: int, changes: str) -> None:
    await stack.rows(f"update notify.ent_notification set {changes} where id = %s", notification_id)


async def sent_titles(stack: Stack) -> list[tuple[str, str]]:
    """Return (recipient, title) of each event that reached Novu, in order."""
    found: list[tuple[str, str]] = []
    for request in await stack.novu.requests():
        if request.method == "POST" and request.subscribers:
            body: Any = json.loads(await stack.novu.body(request.seq) or b"{}")
            found += [(event["to"], event["payload"]["title"]) for event in body.get("events", [body])]
    return found


async def refused_once(stack: Stack) -> None:
    """Wait until a first try ended without effect."""

    async def ended() -> bool:
        return await stack.value("select count(*) > 0 from dispatcher.recipient where outcome = 'http_503'")

    await eventually(ended, f"a first try without effect; {stack.log_tails()}")


async def let_go(stack: Stack) -> None:
    async def free() -> bool:
        return await stack.value("select count(*) = 0 from dispatcher.delivery where lease_until is not null")

    await eventually(free, f"nothing held; {stack.log_tails()}")


async def generation(stack: Stack, notification_id: int) -> int:
    return await stack.value("select generation from dispatcher.delivery where notification_id = %s", notification_id)


async def test_f120_edit_between_claim_and_acquire_is_sent(stack: Stack, to_temporal: FaultProxy):
    await stack.running(TEMPORAL_ADDRESS=f"127.0.0.1:{to_temporal.port}", **QUICK)
    row = await stack.notify(payload='{"title": "draft"}', publish_status="DRAFT", recipients=[ANA])
    await change(stack, row, """payload = '{"title": "before"}'""")
    to_temporal.stall()
    await change(stack, row, "publish_status = 'PUBLISH'")

    async def claimed() -> bool:
        return await stack.status(row) == "PROCESSING"

    await eventually(claimed, "a claim whose start waits")
    await change(stack, row, """payload = '{"title": "after"}'""")
    assert (await stack.novu.summary()).effects == 0
    await to_temporal.heal()
    assert await stack.final(row) == ["SENT"]
    assert await sent_titles(stack) == [(str(ANA), "after")], "what is edited before the first call is sent as edited"


async def test_f120_edit_during_a_run_is_sent_only_by_a_resend(stack: Stack):
    await slow_call(stack)
    await stack.running(**QUICK)
    row = await stack.notify(payload='{"title": "old"}', recipients=[ANA])
    await on_the_wire(stack)
    await stack.rows(
        """update notify.ent_notification set payload = '{"title": "new"}', recipients = %s where id = %s""",
        [ANA, BO],
        row,
    )
    at = time.time()
    assert await stack.final(row) == ["SENT"]
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert request.started_at < at < request.ended_at, "the edit did not meet the call on the wire"
    assert await sent_titles(stack) == [(str(ANA), "old")]
    await change(stack, row, "notification_status = 'PENDING'")
    assert await stack.final(row) == ["SENT"]
    assert sorted((await sent_titles(stack))[1:]) == [(str(ANA), "new"), (str(BO), "new")]
    assert await generation(stack, row) == 2


async def test_f120_edit_after_an_unknown_outcome_is_looked_up_first(stack: Stack):
    await stack.novu.add_fault("reset_after", times=1)
    await stack.running(**QUICK)
    row = await stack.notify(payload='{"title": "old"}', recipients=[ANA])

    async def unknown() -> bool:
        return await stack.value("select count(*) > 0 from dispatcher.recipient where state = 'unknown'")

    await eventually(unknown, "a call without an outcome")
    await change(stack, row, """payload = '{"title": "new"}'""")
    assert await stack.final(row, within=60) == ["SENT"]
    assert await stack.novu.fault_counts() == [1]
    assert await sent_titles(stack) == [(str(ANA), "old")], "Novu has it: other bytes under its identity never leave"
    assert "found" in [outcome for (outcome,) in await stack.rows("select outcome from dispatcher.recipient")]


async def test_f121_deleted_row_is_not_called_again(stack: Stack):
    await stack.novu.add_fault("status", recipient=str(BO), status=503, retry_after="2")
    await slow_call(stack, ANA)
    await stack.running(**QUICK)
    gone = await stack.notify(recipients=[ANA])
    await on_the_wire(stack)
    await stack.rows("delete from notify.ent_notification where id = %s", gone)
    later = await stack.notify(recipients=[BO])
    await refused_once(stack)
    await stack.rows("delete from notify.ent_notification where id = %s", later)
    await let_go(stack)
    assert await stack.novu.fault_counts() == [1, 1], "no call after the row was gone"
    await effects_are_exactly(stack, 1)
    trace = "select state, outcome from dispatcher.recipient order by notification_id"
    assert (await stack.rows(trace))[0] == ("accepted", "processed"), "the ledger keeps the trace"
    assert len(await stack.rows(trace)) == 2
    assert await stack.final(await stack.notify()) == ["SENT"]


async def test_f123_rescheduled_row_is_sent_at_the_new_time(stack: Stack):
    await stack.running(**QUICK)
    soon, late = "clock_timestamp() + interval '1.5 s'", "clock_timestamp() + interval '1 hour'"
    postponed = await stack.notify(publish_status="DRAFT")
    advanced = await stack.notify(publish_status="DRAFT")
    await change(stack, postponed, f"publish_status = 'PUBLISH', scheduled_for = {soon}")
    await change(stack, advanced, f"publish_status = 'PUBLISH', scheduled_for = {late}")
    await change(stack, postponed, f"scheduled_for = {late}")
    await change(stack, advanced, f"scheduled_for = {soon}")
    assert await stack.final(advanced) == ["SENT"]
    assert await stack.status(postponed) == "PENDING"
    await effects_are_exactly(stack, 1)
    late_by = await stack.value(
        "select extract(epoch from first_called_at - scheduled_for)::float from dispatcher.recipient"
        " join notify.ent_notification n on n.id = notification_id"
    )
    assert 0 <= late_by < 5


async def test_f124_unpublished_and_deactivated_rows_wait(stack: Stack):
    await stack.novu.add_fault("status", recipient=str(BO), status=503, retry_after="2", times=1)
    await stack.running(**QUICK)
    drafted = await stack.notify(scheduled_for="2999-01-01", recipients=[ANA])
    await change(stack, drafted, "publish_status = 'DRAFT'")
    await change(stack, drafted, "scheduled_for = null")
    off = await stack.notify(recipients=[BO])
    await refused_once(stack)
    await change(stack, off, "deactivated = true")

    async def handed_back() -> bool:
        return await stack.status(off) == "PENDING"

    await eventually(handed_back, f"the row handed back; {stack.log_tails()}")
    await let_go(stack)
    assert await stack.status(drafted) == "PENDING"
    assert (await stack.novu.summary()).effects == 0
    assert await stack.novu.fault_counts() == [1]
    await change(stack, drafted, "publish_status = 'PUBLISH'")
    await change(stack, off, "deactivated = false")
    assert await stack.final(drafted, off) == ["SENT", "SENT"]
    await effects_are_exactly(stack, 2)
    assert await generation(stack, off) == 1


async def test_f125_pending_by_hand_after_a_final_status_is_a_new_generation(stack: Stack):
    await stack.novu.add_fault("status", recipient=str(BO), status=400, times=1, message="no")
    await stack.running(**QUICK)
    sent, dead = await stack.notify(recipients=[ANA]), await stack.notify(recipients=[BO])
    assert await stack.final(sent, dead) == ["SENT", "FAILED"]
    assert (await stack.details(dead))["dead_letter"] is True
    for row in (sent, dead):
        await change(stack, row, "notification_status = 'PENDING'")
    assert await stack.final(sent, dead) == ["SENT", "SENT"]
    await effects_are_exactly(stack, 3)
    assert [await generation(stack, row) for row in (sent, dead)] == [2, 2]
    assert await stack.value("select count(distinct transaction_id) from dispatcher.recipient") == 4


async def test_f125_waiting_failure_can_be_sent_at_once(stack: Stack):
    """PENDING by the owner is a new sending, with all its tries before it, and takes the place of the retry."""
    await stack.novu.add_fault("status", status=503, times=5)
    await stack.running(**QUICK)
    row = await stack.notify(recipients=[ANA])
    assert await stack.final(row, within=60) == ["FAILED"]
    assert await stack.novu.fault_counts() == [5]
    assert await stack.value("select next_attempt_at > now() + interval '30 s' from dispatcher.delivery")
    await change(stack, row, "notification_status = 'PENDING'")
    assert await stack.final(row) == ["SENT"]
    [[number, attempts, again]] = await stack.rows(
        "select generation, attempts, next_attempt_at from dispatcher.delivery"
    )
    assert (number, attempts, again) == (2, 1, None)
    await effects_are_exactly(stack, 1)


async def test_f126_two_upserts_of_one_row_have_one_effect(stack: Stack):
    await stack.running(**QUICK)
    workflow, number, rounds = await stack.workflow(), 4711, 10
    upsert = (
        "insert into notify.ent_notification (id, name, publish_status, notification_workflow_id, payload, recipients)"
        " overriding system value values (%s, %s, 'PUBLISH', %s, %s, %s)"
        " on conflict (id) do update set payload = excluded.payload, updated_at = now()"
    )

    async def write(name: str) -> None:
        async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as writer:
            for each in range(rounds):
                payload = json.dumps({"title": f"{name} {each}"})
                await writer.execute(upsert, [number, name, workflow, payload, [ANA]])

    await asyncio.gather(write("one"), write("two"))
    assert await stack.final(number) == ["SENT"]
    await effects_are_exactly(stack, 1)
    assert await generation(stack, number) == 1
    written = await stack.value("select count(*) from notify.ent_notification where id = %s", number)
    assert written == 1


async def test_f127_status_written_by_hand_is_rescued_or_kept(stack: Stack):
    """A PROCESSING row without a lease is rescued; SENT is kept, before the claim and during a call."""
    await stack.running(**QUICK)
    done = await stack.notify(notification_status="SENT")
    lost = await stack.notify(notification_status="PROCESSING")
    assert await stack.final(lost) == ["SENT"]
    adopted = await stack.value("select count(*) from oracle.audit where id = %s and ours", lost)
    assert adopted >= 1
    assert await stack.status(done) == "SENT"
    await effects_are_exactly(stack, 1)
    await slow_call(stack)
    row = await stack.notify()
    await on_the_wire(stack)
    await change(stack, row, "notification_status = 'SENT'")
    await let_go(stack)
    assert await stack.status(row) == "SENT"
    assert await stack.details(row) is None, "an outcome is not written over the owner's status"
    await effects_are_exactly(stack, 2)


async def test_f128_reused_id_is_another_notification(stack: Stack):
    await stack.running(**QUICK)
    first = await stack.notify(recipients=[ANA])
    assert await stack.final(first) == ["SENT"]
    await stack.rows("truncate notify.ent_notification restart identity cascade")
    second = await stack.notify(recipients=[ANA], name=f"n {uuid4()}")
    assert second == first
    assert await stack.final(second) == ["SENT"]
    await effects_are_exactly(stack, 2)
    assert await generation(stack, second) == 2
