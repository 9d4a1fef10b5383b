"""Retractions at every stage: what is not yet sent never is, and what Novu accepted is taken back there."""

import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from facts import on_the_wire, slow_call
from house import House, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
NEVER = 3600


async def retract(house: House, *ids: int) -> None:
    """Retract as an owner does: the status, nothing else."""
    await house.rows(
        "update notify.ent_notification set notification_status = 'RETRACTED' where id = any(%s)", list(ids)
    )


async def over(house: House, *ids: int, within: float = 40) -> None:
    """Wait until the retractions were noticed, and nothing is left to take back."""

    async def done() -> bool:
        return await house.value(
            "select count(*) = %s from notify.ent_notification n where id = any(%s) and error_details ? 'retraction'"
            " and not exists (select from dispatcher.recipient where notification_id = n.id and cancel_at is not null)",
            len(ids),
            list(ids),
        )

    await eventually(done, f"{ids} noticed and taken back; {house.last_words()}", within)


async def recipients(house: House, notification_id: int) -> list[tuple[Any, ...]]:
    """Return state and outcome of each recipient in the ledger, by generation."""
    return await house.rows(
        "select state, outcome from dispatcher.recipient where notification_id = %s order by generation, ordinal",
        notification_id,
    )


async def taken_back(house: House) -> list[tuple[int, int]]:
    """Return how often Novu accepted and took back, oldest first."""
    return [(effect.accepted, effect.taken_back) for effect in await house.novu.effects()]


async def calls(house: House, method: str = "POST") -> int:
    return sum(request.method == method for request in await house.novu.requests())


async def test_f122_retracted_before_the_claim_and_after_sent(house: House):
    await house.novu.add_workflow("slow", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await house.running(**QUICK)
    waiting = await house.notify(scheduled_for="2999-01-01")
    shown = await house.notify()
    delayed = await house.notify(workflow=await house.workflow("slow"))
    assert await house.final(shown, delayed) == ["SENT", "SENT"]
    await house.novu.drained()
    await retract(house, waiting, shown, delayed)
    await house.rows("update notify.ent_notification set scheduled_for = null where id = %s", waiting)
    await over(house, waiting, shown, delayed)
    assert await recipients(house, waiting) == []
    assert await recipients(house, shown) == [("cancelled", "removed")]
    assert await recipients(house, delayed) == [("cancelled", "stopped")]
    assert sorted(await taken_back(house)) == [(1, 1), (1, 2)]
    assert await calls(house) == 2
    stamped = "select count(retracted_at) from notify.ent_notification where notification_status = 'RETRACTED'"
    assert await house.value(stamped) == 3


async def test_f122_published_again_it_is_a_new_sending(house: House):
    await house.running(**QUICK)
    row = await house.notify()
    await house.final(row)
    await house.novu.drained()
    await retract(house, row)
    await over(house, row)
    await house.rows(
        "update notify.ent_notification set notification_status = 'PENDING', payload = '{\"title\": \"right\"}'"
        " where id = %s",
        row,
    )
    assert await house.final(row) == ["SENT"]
    assert await recipients(house, row) == [("cancelled", "removed"), ("accepted", "processed")]
    first, second = await house.novu.effects()
    assert first.transaction_id != second.transaction_id
    assert (first.taken_back, second.taken_back) == (1, 0)
    assert "retraction" not in await house.details(row)


async def test_f122_retracted_with_the_call_on_the_wire(house: House):
    await slow_call(house)
    await house.running(**QUICK)
    row = await house.notify()
    await on_the_wire(house)
    await retract(house, row)
    at = time.time()
    await over(house, row)
    [request] = [request for request in await house.novu.requests() if request.method == "POST"]
    assert request.started_at < at < request.ended_at, "the retraction did not meet the call on the wire"
    assert await house.status(row) == "RETRACTED", "a late SENT does not win over it"
    assert await recipients(house, row) == [("cancelled", "removed")]
    assert await taken_back(house) == [(1, 1)]


async def test_f122_retracted_between_two_tries(house: House):
    reached, refused = (UUID(int=number) for number in (1, 2))
    await house.novu.add_fault("status", recipient=str(refused), status=503, retry_after="2")
    await house.running(**QUICK)
    row = await house.notify(recipients=[reached, refused])

    async def half_done() -> bool:
        return [outcome for _, outcome in await recipients(house, row)] == ["processed", "http_503"]

    await eventually(half_done, f"one of two accepted; {house.last_words()}")
    await retract(house, row)
    await over(house, row)
    assert await house.novu.struck() == [1], "no call after the retraction"
    assert (await recipients(house, row))[0] == ("cancelled", "removed")
    assert await taken_back(house) == [(1, 1)]
    assert await house.value("select lease_until is null from dispatcher.delivery")


async def test_f122_novu_refuses_to_cancel_for_a_while(house: House):
    await house.novu.add_fault("status", method="DELETE", status=503, times=1)
    await house.novu.add_fault("reset_after", method="DELETE", times=1)
    await house.novu.add_fault("status", method="DELETE", status=401, times=1)
    process = await house.running(**QUICK)
    row = await house.notify()
    await house.final(row)
    await house.novu.drained()
    await retract(house, row)
    await over(house, row)
    assert await house.novu.struck() == [1, 1, 1]
    assert "novu_gate_shut" in process.words()
    assert await recipients(house, row) == [("cancelled", "removed")]
    assert await house.value("select cancel_tries from dispatcher.recipient") == 2, "a shut gate is not a try"
    assert await house.final(await house.notify()) == ["SENT"]


async def test_f122_a_cancel_that_never_works_is_given_up_and_named(house: House):
    await house.novu.add_fault("status", method="DELETE", status=500)
    process = await house.running(DISPATCHER_RETRY_HORIZON="1s", **QUICK)
    row = await house.notify()
    await house.final(row)
    await retract(house, row)
    await over(house, row)
    assert await house.novu.struck() == [2]
    assert await recipients(house, row) == [("accepted", "cancel_given_up")]
    assert (await house.value("select error from dispatcher.recipient")).startswith("HTTP 500: Internal server error")
    assert process.words().count("cancel_given_up") == 1


async def test_f122_a_process_killed_while_it_cancels(house: House):
    await house.novu.add_fault("hang", method="DELETE", times=1)
    process = await house.running(**QUICK)
    row = await house.notify()
    await house.final(row)
    await house.novu.drained()
    await retract(house, row)

    async def cancelling() -> bool:
        return await house.novu.struck() == [1]

    await eventually(cancelling, "a cancel on the wire")
    process.kill()
    await house.running(**QUICK)
    await over(house, row)
    assert await recipients(house, row) == [("cancelled", "removed")]
    assert await taken_back(house) == [(1, 1)]


async def test_f122_a_delayed_run_that_is_not_there_yet(house: House):
    """Novu forgets a cancel that came before the run: it is asked again while the call is young."""
    await house.novu.add_workflow("slow", steps=[{"type": "delay", "seconds": NEVER}, "email"])
    await house.novu.configure(worker_paused=True)
    await house.running(**QUICK)
    row = await house.notify(workflow=await house.workflow("slow"))
    await house.final(row)
    await retract(house, row)

    async def asked_too_early() -> bool:
        return await house.value("select coalesce(max(cancel_tries), 0) > 0 from dispatcher.recipient")

    await eventually(asked_too_early, "a cancel that came too early")
    await house.novu.configure(worker_paused=False)
    await over(house, row)
    assert await recipients(house, row) == [("cancelled", "stopped")]
    assert await taken_back(house) == [(1, 1)]


async def test_f122_many_retracted_under_load_by_two_nodes(house: House):
    await house.running(**QUICK)
    await house.running(**QUICK)
    tenant = uuid4()
    rows = [await house.notify(enterprise_id=tenant) for _ in range(20)]
    await house.final(*rows, within=60)
    await house.novu.drained()
    await retract(house, *rows)
    await house.burst(100)
    await over(house, *rows)
    await house.all_sent(100)
    assert sorted(effect.taken_back for effect in await house.novu.effects()) == [0] * 100 + [1] * 20
    assert await calls(house, "DELETE") == 40, "each taken back once, by one of the nodes"
