"""Cancelling a trigger: two DELETEs of novu-py with our key and without its retries; our code reads each answer."""

import pytest

from dispatcher.decisions.cancellation import NOT_RUN_YET, NOTHING_THERE, REMOVED, STOPPED
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu.client import NovuClient
from tests.novu.odd_server import answering, reply

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)
LATER = TriggerEvent("later", "ana", "tx-later", "{}", None)


async def trigger(client: NovuClient, novu: FakeNovu, event: TriggerEvent) -> None:
    await client.trigger([event], f"key-{event.transaction_id}", 5)
    await novu.wait_idle()


async def test_cancel_removes_shown_messages_once(client: NovuClient, novu: FakeNovu):
    await trigger(client, novu, ANA)
    assert await client.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, REMOVED)
    assert await client.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, NOTHING_THERE)
    assert [effect.taken_back for effect in await novu.effects()] == [1]


async def test_cancel_stops_a_delayed_run(client: NovuClient, novu: FakeNovu):
    await novu.add_workflow("later", steps=["in_app", {"type": "delay", "seconds": 3600}, "email"])
    await trigger(client, novu, LATER)
    assert await client.cancel("tx-later", 5) == CallResult(AnswerClass.ACCEPTED, STOPPED)
    assert [effect.taken_back for effect in await novu.effects()] == [2], "stopped, and its first message removed"


async def test_f173_cancel_before_the_run_is_not_over(client: NovuClient, novu: FakeNovu):
    await novu.configure(worker_paused=True)
    await client.trigger([ANA], "key-ana", 5)
    early = await client.cancel("tx-ana", 5)
    assert (early.answer_class, early.code) == (AnswerClass.RETRY, NOT_RUN_YET)
    await novu.configure(worker_paused=False)
    await novu.wait_idle()
    assert await client.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, REMOVED)
    assert await client.cancel("tx-ana", 5) == CallResult(AnswerClass.ACCEPTED, NOTHING_THERE)


async def test_both_cancel_calls_carry_our_key(client: NovuClient, novu: FakeNovu):
    await client.cancel("tx-ana", 5)
    made = [request for request in await novu.requests() if request.method == "DELETE"]
    requests = [(request.method, request.path, request.idempotency_key) for request in made]
    assert requests == [
        ("DELETE", "/v1/events/trigger/tx-ana", "cancel-tx-ana"),
        ("DELETE", "/v1/messages/transaction/tx-ana", "cancel-tx-ana"),
    ]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_failed_cancel_is_called_once_and_returned(client: NovuClient, novu: FakeNovu, status: int):
    await novu.add_fault("status", method="DELETE", status=status)
    outcome = await client.cancel("tx-ana", 5)
    assert (outcome.answer_class is not AnswerClass.ACCEPTED, outcome.code) == (True, f"http_{status}")
    assert await novu.fault_counts() == [1]
    assert client.breaker.allows_calls


async def test_failure_after_the_stop_is_not_success(client: NovuClient, novu: FakeNovu):
    await novu.add_fault("status", path="/v1/messages/transaction/tx-ana", status=503)
    outcome = await client.cancel("tx-ana", 5)
    assert (outcome.answer_class, outcome.code) == (AnswerClass.RETRY, "http_503")


async def test_cancel_with_a_wrong_key_trips_the_breaker(novu: FakeNovu):
    client = NovuClient("wrong", novu.url)
    outcome = await client.cancel("tx-ana", 5)
    await client.aclose()
    assert (outcome.answer_class, client.breaker.allows_calls) == (AnswerClass.ACCOUNT_ERROR, False)


async def test_cancel_without_a_server_is_retried():
    client = NovuClient("key", f"http://127.0.0.1:{free_port()}")
    outcome = await client.cancel("tx-ana", 5)
    await client.aclose()
    assert (outcome.answer_class, outcome.code) == (AnswerClass.RETRY, "cancel_failed")


@pytest.mark.parametrize("hang", [False, True])
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": true}')[:-2]])
async def test_cancel_with_a_partial_answer_is_retried(raw: bytes, *, hang: bool):
    async with answering(raw, hang=hang) as server:
        client = NovuClient("key", server.url)
        outcome = await client.cancel("tx-ana", 0.3)
        await client.aclose()
    assert outcome.answer_class is AnswerClass.RETRY


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": "yes"}'])
async def test_cancel_with_an_unreadable_answer_is_retried(body: bytes):
    async with answering(reply("200 OK", body)) as server:
        client = NovuClient("key", server.url)
        outcome = await client.cancel("tx-ana", 5)
        await client.aclose()
    assert outcome.answer_class is AnswerClass.UNKNOWN
