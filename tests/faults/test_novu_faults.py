"""Faults of Novu: no answer, a bad answer, a slow one, a lie. Each repeat keeps its identity, so each effect is one."""

import json
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.temporal import TemporalServer
from tests.faults.waits import effects_are_exactly, posts
from tests.support.invariants import find_violations, load_oracle
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack, open_stack

EXACT = 512 * 1024
REFUSALS = {
    "trigger_not_active": "not active",
    "no_workflow_steps_defined": "has no steps",
    "no_workflow_active_steps_defined": "no active steps",
    "no_tenant_found": "does not know the tenant",
    "invalid_recipients": "refused the recipient",
    "subscriber_id_missing": "no subscriber id",
}


async def one_each(stack: Stack, rules: list[dict[str, Any]], within: float = 40) -> None:
    """Apply each rule to its own row, once; every row is SENT, with one effect and one transactionId."""
    await stack.running(DISPATCHER_BATCH_SIZE="1")
    rows: list[int] = []
    for rule in rules:
        recipient = uuid4()
        await stack.novu.add_fault(**rule, recipient=str(recipient), times=1)
        rows.append(await stack.notify(recipients=[recipient]))
    assert await stack.final(*rows, within=within) == ["SENT"] * len(rules)
    assert await stack.novu.fault_counts() == [1] * len(rules)
    await effects_are_exactly(stack, len(rules))
    bodies = {(request.subscribers[0], request.body_hash) for request in await posts(stack)}
    assert len(bodies) == len(rules), "a repeat is the same request, byte for byte"


@pytest.mark.slow
async def test_f81_errors_of_novu_and_of_gateways_are_retried(stack: Stack):
    await stack.running(DISPATCHER_BATCH_SIZE="1")
    for place, status in enumerate((500, 502, 503, 504)):
        await stack.novu.add_fault("status", status=status, probability=0.1, seed=place, times=3)
    await stack.novu.add_fault("html", probability=0.1, seed=9, times=3)
    await stack.burst(40)
    await stack.all_sent(40)
    assert sum(await stack.novu.fault_counts()) >= 5
    await effects_are_exactly(stack, 40)


@pytest.mark.slow
async def test_f81_stored_error_gets_a_new_key(stack: Stack):
    await stack.novu.add_fault("cached_status", times=1)
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    assert await stack.novu.fault_counts() == [1]
    assert len({request.idempotency_key for request in await posts(stack)}) == 2
    assert len({tuple(request.transaction_ids) for request in await posts(stack)}) == 1


@pytest.mark.slow
async def test_f83_reset_before_or_after_the_effect_has_one_effect(stack: Stack):
    await one_each(stack, [{"kind": "reset_before"}, {"kind": "reset_after"}, {"kind": "half_answer"}])


async def test_f85_every_status_other_than_processed_fails(stack: Stack):
    await stack.running(DISPATCHER_BATCH_SIZE="1")
    rows: dict[str, int] = {}
    for status in REFUSALS:
        recipient = uuid4()
        await stack.novu.add_fault("item_error", recipient=str(recipient), result=status)
        rows[status] = await stack.notify(recipients=[recipient])
    for status, row in rows.items():
        assert await stack.final(row) == ["FAILED"]
        assert REFUSALS[status] in (await stack.details(row))["results"][0]["error"]
    assert await stack.novu.fault_counts() == [1] * len(REFUSALS)
    await effects_are_exactly(stack, 0)


@pytest.mark.slow
async def test_f85_unknown_status_is_retried(stack: Stack):
    await one_each(stack, [{"kind": "unknown_status"}])


@pytest.mark.slow
async def test_f85_item_error_of_a_bulk_call_fails_one_row(stack: Stack):
    await stack.novu.add_fault("item_error", times=1, message="Internal error")
    await stack.novu.add_fault("partial_bulk", times=1)
    await stack.burst(30)
    await stack.running()
    await stack.all_sent(30)
    assert await stack.novu.fault_counts() == [1, 1]
    await effects_are_exactly(stack, 30)


@pytest.mark.slow
async def test_f86_unreadable_answers_are_retried(stack: Stack):
    deep = "[" * 3000 + "]" * 3000
    bodies = {
        "malformed": {"kind": "malformed"},
        "html": {"kind": "body", "body": "<html></html>", "headers": {"Content-Type": "text/html"}},
        "empty": {"kind": "body", "body": ""},
        "deep": {"kind": "body", "body": f'{{"data": {deep}}}'},
        "nul": {"kind": "body", "body": '{"data": {"status": "\x00"}}'},
        "charset": {
            "kind": "body",
            "body": "\xff\xfe",
            "headers": {"Content-Type": "application/json; charset=klingon"},
        },
        "not gzip": {"kind": "body", "body": "plain", "headers": {"Content-Encoding": "gzip"}},
        "10 MB": {"kind": "body", "body": "x" * 10_000_000},
    }
    await one_each(stack, list(bodies.values()))


async def test_f90_payload_above_the_limit_is_refused_without_a_call(stack: Stack):
    await stack.running()
    frame = len('{"x": ""}')
    fits = await stack.notify(payload=json.dumps({"x": "y" * (EXACT - frame)}))
    too_long = await stack.notify(payload=json.dumps({"x": "y" * (EXACT - frame + 1)}))
    assert await stack.final(fits, too_long) == ["SENT", "FAILED"]
    assert "the limit is 524288" in (await stack.details(too_long))["error"]
    assert len(await posts(stack)) == 1


@pytest.mark.slow
async def test_f91_lost_first_answer_without_idempotency_is_looked_up(
    url: str, temporal_server: TemporalServer, novu: FakeNovu, tmp_path: Any
):
    async with open_stack(url, temporal_server.address, novu, tmp_path) as stack:
        await novu.configure(idempotency=False)
        await novu.add_fault("reset_after", times=1)
        await stack.running()
        row = await stack.notify()
        assert await stack.final(row, within=60) == ["SENT"]
        await novu.wait_idle()
        [effect] = await novu.effects()
        assert (effect.accepted, effect.runs) == (1, 1), "looked up, and found"
        await load_oracle(stack.connection, novu)
        assert await find_violations(stack.connection) == {}


@pytest.mark.slow
async def test_f92_redirect_is_not_followed(stack: Stack, to_novu: FaultProxy):
    elsewhere = f"http://127.0.0.1:{to_novu.port}/v1/events/trigger"
    await stack.novu.add_fault("status", status=307, location=elsewhere, times=1)
    await stack.running()
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await stack.novu.fault_counts() == [1]
    assert to_novu.counts["accepted"] == 0
    await effects_are_exactly(stack, 1)


async def test_f110_unstorable_error_text_of_novu_is_cleaned(stack: Stack):
    await stack.running()
    recipient = uuid4()
    words = "bad\x00word \ud800 \x1b[31m " + "long " * 2000
    await stack.novu.add_fault("status", status=400, message=words, recipient=str(recipient))
    row = await stack.notify(recipients=[recipient])
    assert await stack.final(row) == ["FAILED"]
    error = (await stack.details(row))["results"][0]["error"]
    assert "bad word" in error
    assert len(error) < 700
    assert await stack.novu.fault_counts() == [1]
