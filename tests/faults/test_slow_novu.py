"""A Novu that takes its time, holds us up or limits us: rows wait, none fails for it, two calls are never in flight."""

import time
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from dispatcher.delivery.workflows import MAX_ATTEMPTS
from tests.faults.waits import effects_are_exactly, posts
from tests.support.proxy import FaultProxy
from tests.support.stack import Process, Stack
from tests.support.waits import eventually

pytestmark = pytest.mark.slow


async def nothing_failed(stack: Stack) -> None:
    """No row was FAILED for a moment, and none needed a second run."""
    assert await stack.value("select count(*) from oracle.audit where new_status in ('FAILED', 'PARTIAL')") == 0
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1


async def struck(stack: Stack, kind: str, **rule: Any) -> int:
    """Insert a row whose first call meets this fault; return its id."""
    recipient = uuid4()
    await stack.novu.add_fault(kind, recipient=str(recipient), times=1, **rule)
    return await stack.notify(recipients=[recipient])


async def test_f82_f84_missing_or_trickling_answer_is_waited_for_and_repeated(stack: Stack):
    await stack.running()
    rows = [
        await struck(stack, "silent"),  # done and never answered
        await struck(stack, "hang"),  # neither
        await struck(stack, "slow_headers", seconds=0.7),
        await struck(stack, "slow_body", seconds=0.7),
    ]
    assert await stack.final(*rows, within=90) == ["SENT"] * 4
    assert await stack.novu.fault_counts() == [1] * 4
    await effects_are_exactly(stack, 4)
    calls = await posts(stack)
    assert sum(call.replayed for call in calls) == 3, "all but the one that was never worked on"
    assert len({(call.subscribers[0], call.body_hash, call.idempotency_key) for call in calls}) == 4
    await nothing_failed(stack)


async def test_f84_late_refusal_is_logged_like_any_other(stack: Stack):
    process = await stack.running()
    recipients = [uuid4() for _ in range(3)]
    for recipient in recipients:  # a call each, all answered at once
        await stack.novu.add_fault("delay", recipient=str(recipient), times=1, seconds=7)
    row = await stack.notify(recipients=recipients, workflow=await stack.workflow("nobody-knows-it"))
    assert await stack.final(row, within=20) == ["FAILED"]
    await eventually(lambda: in_log(process, '"dead_letter"'), "a word on the dead letter")
    assert (process.read_log().count('"dead_letter"'), process.read_log().count('"delivered"')) == (1, 1)
    assert await stack.novu.fault_counts() == [1, 1, 1]


async def in_log(process: Process, event: str) -> bool:
    return event in process.read_log()


@pytest.mark.parametrize("idempotency", [True, False])
async def test_f84_late_answer_settles_and_its_call_is_not_repeated(stack: Stack, idempotency: bool):  # noqa: FBT001
    await stack.novu.configure(idempotency=idempotency)
    await stack.running()
    seven, one = await struck(stack, "delay", seconds=7), await stack.notify()
    assert await stack.final(one) == ["SENT"]
    began = time.monotonic()
    assert await stack.final(seven, within=20) == ["SENT"]
    assert time.monotonic() - began < 12
    assert await stack.novu.fault_counts() == [1]
    assert len(await posts(stack)) == 2
    await effects_are_exactly(stack, 2)
    await nothing_failed(stack)


async def test_f84_answer_after_thirty_seconds_settles(stack: Stack):
    await stack.running()
    row = await struck(stack, "delay", seconds=30)
    assert await stack.final(row, within=60) == ["SENT"]
    call = (await posts(stack))[0]
    assert (call.status, call.ended_at - call.started_at > 29) == (201, True)
    await nothing_failed(stack)


async def test_f89_locked_key_is_waited_for(stack: Stack):
    await stack.novu.add_fault("status", status=409, retry_after="1", times=6)
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row, within=60) == ["SENT"]
    assert await stack.novu.fault_counts() == [6], "more often than a run has tries"
    assert len({call.idempotency_key for call in await posts(stack)}) == 1
    await effects_are_exactly(stack, 1)
    await nothing_failed(stack)


async def test_f89_stored_error_is_not_requested_again(stack: Stack):
    await stack.novu.add_fault("cached_status", status=422, times=1)
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row) == ["FAILED"]
    await stack.rows("update notify.ent_notification set notification_status = 'PENDING' where id = %s", row)
    assert await stack.final(row) == ["SENT"]
    assert len({call.idempotency_key for call in await posts(stack)}) == 2


async def test_f80_rate_limit_is_followed(stack: Stack):
    await stack.novu.configure(rate_limit=60)
    await stack.running()
    await stack.final(await stack.notify())  # its answer names the limit; calls before it cannot be limited
    await stack.burst(700)
    for _ in range(9):
        await stack.notify()
    await stack.all_sent(710)
    calls = await posts(stack)
    refused = [call for call in calls if call.status == 429]
    assert len(refused) <= 0.02 * len(calls), f"{len(refused)} of {len(calls)} calls were refused"
    took = max(call.ended_at for call in calls) - min(call.started_at for call in calls)
    assert took >= (700 - 330) / 60, "the limit was really there"
    await effects_are_exactly(stack, 710)
    await nothing_failed(stack)


async def test_f80_429_without_limit_headers_spends_no_attempt(stack: Stack):
    await stack.novu.add_fault("status", status=429, times=6)
    await stack.running()
    rows = [await stack.notify() for _ in range(2)]
    assert await stack.final(*rows) == ["SENT"] * 2
    assert await stack.novu.fault_counts() == [6]
    await nothing_failed(stack)


@pytest.mark.parametrize("status", [409, 429])
async def test_f224_throttled_first_try_leaves_all_tries_to_the_batch_queue(stack: Stack, status: int):
    await stack.novu.add_fault("status", status=status, times=1)
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    workflow_id = await stack.value("select workflow_id from dispatcher.delivery where notification_id = %s", row)
    client = await Client.connect(stack.temporal_address)
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    tries = [
        event.activity_task_scheduled_event_attributes.retry_policy.maximum_attempts
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert tries == [MAX_ATTEMPTS]


@pytest.mark.parametrize("status", [402, 403])
async def test_f87_account_error_fails_no_row(stack: Stack, status: int):
    await stack.novu.add_fault("status", status=status, path="/v1/events/trigger", times=2)
    await stack.novu.add_fault("status", status=status, path="/v1/environments/me", times=1)
    process = await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    rows = [await stack.notify() for _ in range(5)]
    assert await stack.final(*rows, within=90) == ["SENT"] * 5
    assert await stack.novu.fault_counts() == [2, 1]
    assert process.read_log().count("novu_gate_shut") == 1
    await effects_are_exactly(stack, 5)
    await nothing_failed(stack)


async def test_f95_flapping_novu_makes_progress_while_it_is_up(stack: Stack, to_novu: FaultProxy):
    await stack.running(NOVU_API_URL=f"http://127.0.0.1:{to_novu.port}")
    sent = 0
    for _ in range(3):
        rows = [await stack.notify() for _ in range(5)]
        sent += len(rows)

        async def some(least: int = sent) -> bool:
            return (await stack.counts()).get("SENT", 0) >= least - 4

        await eventually(some, "progress while Novu is up", 20)
        await to_novu.refuse()
        to_novu.reset()
        rows = [await stack.notify() for _ in range(5)]
        sent += len(rows)
        await eventually(lambda: failed_to_connect(stack), "a call that found nobody")
        await to_novu.open()
    await stack.all_sent(sent, within=75)
    await effects_are_exactly(stack, sent)


async def failed_to_connect(stack: Stack) -> bool:
    """Whether a recipient waits whose call reached no server."""
    return await stack.value("select count(*) from dispatcher.recipient where outcome = 'not_sent'") > 0


async def test_f170_answer_after_33_seconds_is_waited_for_without_idempotency(stack: Stack):
    """Longer than a usual read time-out, shorter than the one limit of a call: a single call and a bulk call."""
    await stack.novu.configure(idempotency=False)
    await stack.running()
    single = await struck(stack, "delay", seconds=33)
    await eventually(lambda: hits(stack, [1]), "the single call to be slow")
    await stack.novu.add_fault("delay", times=1, seconds=33)
    await stack.burst(20)
    batch = [row for (row,) in await stack.rows("select id from notify.ent_notification where name like 'burst %%'")]
    assert await stack.final(single, *batch, within=75) == ["SENT"] * 21
    assert await stack.novu.fault_counts() == [1, 1]
    calls = await posts(stack)
    assert sorted(len(call.subscribers) for call in calls) == [1, 20], "no call was repeated"
    assert all(call.ended_at - call.started_at > 32 for call in calls)
    await effects_are_exactly(stack, 21)
    await nothing_failed(stack)


async def hits(stack: Stack, counts: list[int]) -> bool:
    return await stack.novu.fault_counts() == counts
