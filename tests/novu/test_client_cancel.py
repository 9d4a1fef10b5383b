"""Taking a trigger back: two DELETEs of novu-py with our key and without its retries, each answer read by ourselves."""

import pytest

from dispatcher.decisions.cancellation import NOTHING_THERE, REMOVED, STOPPED
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu.client import NovuClient
from tests.novu.odd_server import answering, reply

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)
LATER = TriggerEvent("later", "ana", "tx-later", "{}", None)


async def trigger(gateway: NovuClient, novu: FakeNovu, event: TriggerEvent) -> None:
    await gateway.trigger([event], f"key-{event.transaction_id}", 5)
    await novu.wait_idle()


async def test_messages_already_shown_are_removed_once(gateway: NovuClient, novu: FakeNovu):
    await trigger(gateway, novu, ANA)
    assert await gateway.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, REMOVED)
    assert await gateway.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, NOTHING_THERE)
    assert [effect.taken_back for effect in await novu.effects()] == [1]


async def test_what_waits_is_stopped(gateway: NovuClient, novu: FakeNovu):
    await novu.add_workflow("later", steps=["in_app", {"type": "delay", "seconds": 3600}, "email"])
    await trigger(gateway, novu, LATER)
    assert await gateway.cancel("tx-later", 5) == CallResult(AnswerClass.ACCEPTED, STOPPED)
    assert [effect.taken_back for effect in await novu.effects()] == [2], "stopped, and its first message removed"


async def test_both_calls_carry_our_key(gateway: NovuClient, novu: FakeNovu):
    await gateway.cancel("tx-ana", 5)
    requests = [(request.method, request.path, request.idempotency_key) for request in await novu.requests()]
    assert requests == [
        ("DELETE", "/v1/events/trigger/tx-ana", "cancel-tx-ana"),
        ("DELETE", "/v1/messages/transaction/tx-ana", "cancel-tx-ana"),
    ]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_failure_is_asked_once_and_told(gateway: NovuClient, novu: FakeNovu, status: int):
    await novu.add_fault("status", method="DELETE", status=status)
    outcome = await gateway.cancel("tx-ana", 5)
    assert (outcome.answer_class is not AnswerClass.ACCEPTED, outcome.code) == (True, f"http_{status}")
    assert await novu.fault_counts() == [1]
    assert gateway.breaker.allows_calls


async def test_a_failure_after_the_stop_is_no_success(gateway: NovuClient, novu: FakeNovu):
    await novu.add_fault("status", path="/v1/messages/transaction/tx-ana", status=503)
    outcome = await gateway.cancel("tx-ana", 5)
    assert (outcome.answer_class, outcome.code) == (AnswerClass.RETRY, "http_503")


async def test_a_wrong_key_shuts_the_gate(novu: FakeNovu):
    gateway = NovuClient("wrong", novu.url)
    outcome = await gateway.cancel("tx-ana", 5)
    await gateway.aclose()
    assert (outcome.answer_class, gateway.breaker.allows_calls) == (AnswerClass.ACCOUNT_ERROR, False)


async def test_nobody_there_is_tried_again():
    gateway = NovuClient("key", f"http://127.0.0.1:{free_port()}")
    outcome = await gateway.cancel("tx-ana", 5)
    await gateway.aclose()
    assert (outcome.answer_class, outcome.code) == (AnswerClass.RETRY, "cancel_failed")


@pytest.mark.parametrize("hang", [False, True])
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": true}')[:-2]])
async def test_half_an_answer_is_tried_again(raw: bytes, *, hang: bool):
    async with answering(raw, hang=hang) as server:
        gateway = NovuClient("key", server.url)
        outcome = await gateway.cancel("tx-ana", 0.3)
        await gateway.aclose()
    assert outcome.answer_class is AnswerClass.RETRY


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": "yes"}'])
async def test_an_answer_nobody_can_read_is_tried_again(body: bytes):
    async with answering(reply("200 OK", body)) as server:
        gateway = NovuClient("key", server.url)
        outcome = await gateway.cancel("tx-ana", 5)
        await gateway.aclose()
    assert outcome.answer_class is AnswerClass.UNKNOWN
