"""Retractions at every stage: unsent recipients are never sent to, and accepted ones are cancelled at Novu."""

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.faults.waits import on_the_wire, slow_call
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
NEVER = 3600


async def retract(stack: Stack, *ids: int) -> None:
    """Retract as an owner does: the status, nothing else."""
    await stack.rows(
        "update notify.ent_notification set notification_status = 'RETRACTED' where id = any(%s)", list(ids)
    )


async def over(stack: Stack, *ids: int, within: float = 40) -> None:
    """Wait until the retractions were detected and no cancel is left."""

    async def done() -> bool:
        return await stack.value(
            "select count(*) = %s from notify.ent_notification n where id = any(%s) and error_details ? 'retraction'"
            " and not exists (select from dispatcher.recipient where notification_id = n.id and cancel_at is not null)",
            len(ids),
            list(ids),
        )

    await eventually(done, f"{ids} noticed and taken back; {stack.log_tails()}", within)


async def recipients(stack: Stack, notification_id: int) -> list[tuple[Any, ...]]:
    """Return state and outcome of each recipient in the ledger, by generation."""
    return await stack.rows(
        "select state, outcome from dispatcher.recipient where notification_id = %s order by generation, ordinal",
        notification_id,
    )


async def cancelled_at_novu(stack: Stack) -> list[tuple[int, int]]:
    """Return how often Novu accepted and took back, oldest first."""
    return [(effect.accepted, effect.taken_back) for effect in await stack.novu.effects()]


async def calls(stack: Stack, method: str = "POST") -> int:
    return sum(request.method == method for request in await stack.novu.requests())


async def test_f122_retraction_before_the_claim_and_after_sent(stack: Stack):
    await stack.novu.add_workflow("slow", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await stack.running(**QUICK)
    waiting = await stack.notify(scheduled_for="2999-01-01")
    shown = await stack.notify()
    delayed = await stack.notify(workflow=await stack.workflow("slow"))
    assert await stack.final(shown, delayed) == ["SENT", "SENT"]
    await stack.novu.wait_idle()
    await retract(stack, waiting, shown, delayed)
    await stack.rows("update notify.ent_notification set scheduled_for = null where id = %s", waiting)
    await over(stack, waiting, shown, delayed)
    assert await recipients(stack, waiting) == []
    assert await recipients(stack, shown) == [("cancelled", "removed")]
    assert await recipients(stack, delayed) == [("cancelled", "stopped")]
    assert sorted(await cancelled_at_novu(stack)) == [(1, 1), (1, 2)]
    assert await calls(stack) == 2
    stamped = "select count(retracted_at) from notify.ent_notification where notification_status = 'RETRACTED'"
    assert await stack.value(stamped) == 3


async def test_f122_row_published_again_is_a_new_generation(stack: Stack):
    await stack.running(**QUICK)
    row = await stack.notify()
    await stack.final(row)
    await stack.novu.wait_idle()
    await retract(stack, row)
    await over(stack, row)
    await stack.rows(
        "update notify.ent_notification set notification_status = 'PENDING', payload = '{\"title\": \"right\"}'"
        " where id = %s",
        row,
    )
    assert await stack.final(row) == ["SENT"]
    assert await recipients(stack, row) == [("cancelled", "removed"), ("accepted", "processed")]
    first, second = await stack.novu.effects()
    assert first.transaction_id != second.transaction_id
    assert (first.taken_back, second.taken_back) == (1, 0)
    assert "retraction" not in await stack.details(row)


async def test_f122_retraction_during_a_call(stack: Stack):
    await slow_call(stack)
    await stack.running(**QUICK)
    row = await stack.notify()
    await on_the_wire(stack)
    await retract(stack, row)
    at = time.time()
    await over(stack, row)
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert request.started_at < at < request.ended_at, "the retraction did not meet the call on the wire"
    assert await stack.status(row) == "RETRACTED", "a late SENT does not win over it"
    assert await recipients(stack, row) == [("cancelled", "removed")]
    assert await cancelled_at_novu(stack) == [(1, 1)]


async def test_f122_retraction_between_two_attempts(stack: Stack):
    reached, refused = (UUID(int=number) for number in (1, 2))
    await stack.novu.add_fault("status", recipient=str(refused), status=503, retry_after="2")
    await stack.running(**QUICK)
    row = await stack.notify(recipients=[reached, refused])

    async def half_done() -> bool:
        return [outcome for _, outcome in await recipients(stack, row)] == ["processed", "http_503"]

    await eventually(half_done, f"one of two accepted; {stack.log_tails()}")
    await retract(stack, row)
    await over(stack, row)
    assert await stack.novu.fault_counts() == [1], "no call after the retraction"
    assert (await recipients(stack, row))[0] == ("cancelled", "removed")
    assert await cancelled_at_novu(stack) == [(1, 1)]
    assert await stack.value("select lease_until is null from dispatcher.delivery")


async def test_f122_refused_cancel_is_retried(stack: Stack):
    await stack.novu.add_fault("status", method="DELETE", status=503, times=1)
    await stack.novu.add_fault("reset_after", method="DELETE", times=1)
    await stack.novu.add_fault("status", method="DELETE", status=401, times=1)
    await stack.novu.add_fault("status", path="/v1/environments/me", status=401, times=1)
    process = await stack.running(**QUICK)
    row = await stack.notify()
    await stack.final(row)
    await stack.novu.wait_idle()
    await retract(stack, row)
    await over(stack, row)
    assert await stack.novu.fault_counts() == [1, 1, 1, 1]
    assert "novu_gate_shut" in process.read_log()
    assert await recipients(stack, row) == [("cancelled", "removed")]
    assert await stack.value("select cancel_tries from dispatcher.recipient") == 2, (
        "a tripped breaker spends no attempt"
    )
    assert await stack.final(await stack.notify()) == ["SENT"]


async def test_f122_failing_cancel_is_given_up_and_named(stack: Stack):
    await stack.novu.add_fault("status", method="DELETE", status=500)
    process = await stack.running(DISPATCHER_RETRY_HORIZON="1s", **QUICK)
    row = await stack.notify()
    await stack.final(row)
    await retract(stack, row)
    await over(stack, row)
    assert await stack.novu.fault_counts() == [2]
    assert await recipients(stack, row) == [("accepted", "cancel_given_up")]
    assert (await stack.value("select error from dispatcher.recipient")).startswith("HTTP 500: Internal server error")
    assert process.read_log().count("cancel_given_up") == 1


async def test_f122_cancel_of_a_killed_process_is_taken_over(stack: Stack):
    await stack.novu.add_fault("hang", method="DELETE", times=1)
    process = await stack.running(**QUICK)
    row = await stack.notify()
    await stack.final(row)
    await stack.novu.wait_idle()
    await retract(stack, row)

    async def cancelling() -> bool:
        return await stack.novu.fault_counts() == [1]

    await eventually(cancelling, "a cancel on the wire")
    process.kill()
    await stack.running(**QUICK)
    await over(stack, row)
    assert await recipients(stack, row) == [("cancelled", "removed")]
    assert await cancelled_at_novu(stack) == [(1, 1)]


async def test_f122_delayed_run_that_is_not_visible_yet_is_cancelled(stack: Stack):
    """Novu forgets a cancel that came before the run: it is asked again while the call is young."""
    await stack.novu.add_workflow("slow", steps=[{"type": "delay", "seconds": NEVER}, "email"])
    await stack.novu.configure(worker_paused=True)
    await stack.running(**QUICK)
    row = await stack.notify(workflow=await stack.workflow("slow"))
    await stack.final(row)
    await retract(stack, row)

    async def asked_too_early() -> bool:
        return await stack.value("select coalesce(max(cancel_tries), 0) > 0 from dispatcher.recipient")

    await eventually(asked_too_early, "a cancel that came too early")
    await stack.novu.configure(worker_paused=False)
    await over(stack, row)
    assert await recipients(stack, row) == [("cancelled", "stopped")]
    assert await cancelled_at_novu(stack) == [(1, 1)]


async def test_f122_many_retractions_under_load_by_two_nodes(stack: Stack):
    await stack.running(**QUICK)
    await stack.running(**QUICK)
    tenant = uuid4()
    rows = [await stack.notify(enterprise_id=tenant) for _ in range(20)]
    await stack.final(*rows, within=60)
    await stack.novu.wait_idle()
    await retract(stack, *rows)
    await stack.burst(100)
    await over(stack, *rows)
    await stack.all_sent(100)
    assert sorted(effect.taken_back for effect in await stack.novu.effects()) == [0] * 100 + [1] * 20
    assert await calls(stack, "DELETE") == 40, "each was cancelled once, by one of the nodes"
