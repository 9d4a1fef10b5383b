"""Refusals of a whole call, and refusals that look like the account's but are one call's own: the others are sent."""

from typing import Any
from uuid import uuid4

import pytest

from tests.faults.waits import effects_are_exactly, posts
from tests.support.stack import Stack
from tests.support.waits import eventually


async def calls_of_the_first_refused(stack: Stack) -> list[Any]:
    """Return the first refused call and all calls with members of it."""
    calls = await posts(stack)
    refused = next(call for call in calls if call.status >= 400)
    return [refused, *(call for call in calls if call is not refused and {*call.subscribers} <= {*refused.subscribers})]


async def last_attempts(stack: Stack) -> int:
    return await stack.value("select max(attempts) from dispatcher.delivery")


@pytest.mark.parametrize(("kind", "status"), [("status", 422), ("cached_status", 400), ("status", 413)])
async def test_f180_one_bad_member_of_a_bulk_call_fails_alone(stack: Stack, kind: str, status: int):
    culprit = uuid4()
    await stack.novu.add_fault(kind, status=status, message="bad member", recipient=str(culprit))
    await stack.burst(100)
    bad = await stack.value("select min(id) + 70 from notify.ent_notification")
    await stack.rows("update notify.ent_notification set recipients = array[%s::uuid] where id = %s", culprit, bad)
    await stack.running()
    await stack.all_sent(99)
    assert await stack.final(bad) == ["FAILED"]
    details = await stack.details(bad)
    assert (details["dead_letter"], details["error"]) == (True, f"HTTP {status}: bad member")
    first, *extra = await calls_of_the_first_refused(stack)
    assert len(first.subscribers) == 100
    assert len(extra) <= 14
    assert await last_attempts(stack) == 1, "all in the same run"
    await effects_are_exactly(stack, 99)


async def test_f180_only_bad_members_take_less_than_200_calls(stack: Stack):
    await stack.novu.add_fault("status", status=400, message="bad member", path="/v1/events/trigger/bulk")
    await stack.novu.add_fault("status", status=400, message="bad member", path="/v1/events/trigger")
    await stack.burst(100)
    await stack.running()
    await stack.quiet()
    assert await stack.counts() == {"FAILED": 100}
    assert len(await posts(stack)) <= 1 + 200


async def test_f181_one_bad_recipient_of_a_row_fails_alone(stack: Stack):
    recipients = [uuid4() for _ in range(60)]
    await stack.novu.add_fault("status", status=422, message="bad recipient", recipient=str(recipients[41]))
    await stack.running()
    row = await stack.notify(recipients=recipients)
    await stack.final(row)
    details = await stack.details(row)
    assert (details["outcome"], details["successCount"], details["attempts"]) == ("PARTIAL", 59, 1)
    assert [entry["recipientId"] for entry in details["results"] if not entry["success"]] == [str(recipients[41])]
    assert len(await posts(stack)) <= 2 + 12, "the call of the first try, the same again, and two for each halving"
    await effects_are_exactly(stack, 59)


async def test_f181_row_that_is_refused_as_such_costs_few_calls_at_each_try(stack: Stack):
    await stack.novu.add_fault("status", status=413, message="too large", workflow="default-email")
    await stack.running()
    workflow = await stack.workflow("default-email")
    row = await stack.notify(recipients=[uuid4() for _ in range(1000)], workflow=workflow)
    assert await stack.final(await stack.notify()) == ["SENT"], "others go on"

    async def refused_alone() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where state = 'refused'") >= 100

    await eventually(refused_alone, f"100 recipients refused; {stack.log_tails()}", 15)
    assert len(await posts(stack)) <= 10 + 10 + 198 + 1, "the first try, ten bulk calls again, and the parts of one"
    await stack.novu.clear_faults()
    await stack.final(row)
    details = await stack.details(row)
    assert (details["outcome"], details["attempts"]) == ("PARTIAL", 1)
    assert details["successCount"] >= 500, "the other recipients were not judged by the refused ones"


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_f182_call_that_a_firewall_refuses_stops_no_other_row(stack: Stack, status: int):
    culprit = uuid4()
    await stack.novu.add_fault("status", status=status, message="blocked", recipient=str(culprit))
    process = await stack.running(DISPATCHER_MAX_RUNS="1", DISPATCHER_BATCH_SIZE="1")
    good = [await stack.notify() for _ in range(3)]
    assert await stack.final(*good) == ["SENT"] * 3
    bad = await stack.notify(recipients=[culprit])
    if status == 402:  # Novu names its quota: only an acceptance after the breaker opened shows that it is not spent
        # If the refused row is the first one after the probe, the breaker opens again, for 30 s.
        good += [await stack.notify() for _ in range(5)]
        assert await stack.final(*good, within=45) == ["SENT"] * 8
    assert await stack.final(bad, within=60) == ["FAILED"]
    details = await stack.details(bad)
    assert (details["dead_letter"], details["error"]) == (True, f"HTTP {status}: blocked")
    assert process.read_log().count("novu_gate_shut") == (status == 402)
    assert await stack.final(await stack.notify()) == ["SENT"]


async def test_f182_bulk_call_that_a_firewall_refuses_is_split(stack: Stack):
    culprit = uuid4()
    await stack.novu.add_fault("status", status=403, message="blocked", recipient=str(culprit))
    await stack.burst(60)
    bad = await stack.notify(recipients=[culprit])
    process = await stack.running(DISPATCHER_MAX_RUNS="1")
    await stack.all_sent(60, within=15)
    assert await stack.final(bad, within=60) == ["FAILED"]
    assert (await stack.details(bad))["error"] == "HTTP 403: blocked"
    assert "novu_gate_shut" not in process.read_log()
    await effects_are_exactly(stack, 60)
