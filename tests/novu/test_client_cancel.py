"""Taking a trigger back: two DELETEs of novu-py with our key and without its retries, each answer read by ourselves."""

import pytest

from dispatcher.decisions.cancellation import NOTHING, REMOVED, STOPPED
from dispatcher.devstack.fake_novu.process import Standin
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import Event, Outcome, Verdict
from dispatcher.novu.client import NovuGateway
from tests.novu.odd_server import answering, reply

ANA = Event("default-in-app", "ana", "tx-ana", "{}", None)
LATER = Event("later", "ana", "tx-later", "{}", None)


async def trigger(gateway: NovuGateway, novu: Standin, event: Event) -> None:
    await gateway.trigger([event], f"key-{event.transaction_id}", 5)
    await novu.drained()


async def test_messages_already_shown_are_removed_once(gateway: NovuGateway, novu: Standin):
    await trigger(gateway, novu, ANA)
    assert await gateway.cancel("tx-ana", 5) == Outcome(Verdict.ACCEPTED, REMOVED)
    assert await gateway.cancel("tx-ana", 5) == Outcome(Verdict.ACCEPTED, NOTHING)
    assert [effect.taken_back for effect in await novu.effects()] == [1]


async def test_what_waits_is_stopped(gateway: NovuGateway, novu: Standin):
    await novu.add_workflow("later", steps=["in_app", {"type": "delay", "seconds": 3600}, "email"])
    await trigger(gateway, novu, LATER)
    assert await gateway.cancel("tx-later", 5) == Outcome(Verdict.ACCEPTED, STOPPED)
    assert [effect.taken_back for effect in await novu.effects()] == [2], "stopped, and its first message removed"


async def test_both_calls_carry_our_key(gateway: NovuGateway, novu: Standin):
    await gateway.cancel("tx-ana", 5)
    requests = [(request.method, request.path, request.idempotency_key) for request in await novu.requests()]
    assert requests == [
        ("DELETE", "/v1/events/trigger/tx-ana", "cancel-tx-ana"),
        ("DELETE", "/v1/messages/transaction/tx-ana", "cancel-tx-ana"),
    ]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_failure_is_asked_once_and_told(gateway: NovuGateway, novu: Standin, status: int):
    await novu.add_fault("status", method="DELETE", status=status)
    outcome = await gateway.cancel("tx-ana", 5)
    assert (outcome.verdict is not Verdict.ACCEPTED, outcome.code) == (True, f"http_{status}")
    assert await novu.struck() == [1]
    assert gateway.gate.open


async def test_a_failure_after_the_stop_is_no_success(gateway: NovuGateway, novu: Standin):
    await novu.add_fault("status", path="/v1/messages/transaction/tx-ana", status=503)
    outcome = await gateway.cancel("tx-ana", 5)
    assert (outcome.verdict, outcome.code) == (Verdict.RETRY, "http_503")


async def test_a_wrong_key_shuts_the_gate(novu: Standin):
    gateway = NovuGateway("wrong", novu.url)
    outcome = await gateway.cancel("tx-ana", 5)
    await gateway.aclose()
    assert (outcome.verdict, gateway.gate.open) == (Verdict.SYSTEMIC, False)


async def test_nobody_there_is_tried_again():
    gateway = NovuGateway("key", f"http://127.0.0.1:{free_port()}")
    outcome = await gateway.cancel("tx-ana", 5)
    await gateway.aclose()
    assert (outcome.verdict, outcome.code) == (Verdict.RETRY, "cancel_failed")


@pytest.mark.parametrize("hang", [False, True])
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": true}')[:-2]])
async def test_half_an_answer_is_tried_again(raw: bytes, *, hang: bool):
    async with answering(raw, hang=hang) as server:
        gateway = NovuGateway("key", server.url)
        outcome = await gateway.cancel("tx-ana", 0.3)
        await gateway.aclose()
    assert outcome.verdict is Verdict.RETRY


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": "yes"}'])
async def test_an_answer_nobody_can_read_is_tried_again(body: bytes):
    async with answering(reply("200 OK", body)) as server:
        gateway = NovuGateway("key", server.url)
        outcome = await gateway.cancel("tx-ana", 5)
        await gateway.aclose()
    assert outcome.verdict is Verdict.AMBIGUOUS
