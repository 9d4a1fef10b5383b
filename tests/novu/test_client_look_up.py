"""Asking Novu what became of a call, and noticing whether it minds our keys."""

import json

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu.client import NovuClient
from tests.novu.odd_server import answering, reply

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)
BO = TriggerEvent("default-in-app", "bo", "tx-bo", "{}", None)
FOUND = CallResult(AnswerClass.ACCEPTED, "found")


class TestLookUp:
    async def test_a_run_is_found_and_none_is_surely_none(self, gateway: NovuClient, novu: FakeNovu):
        await gateway.trigger([ANA], "key-1", 5)
        await novu.wait_idle()
        assert await gateway.look_up(ANA, 5) == FOUND
        assert (await gateway.look_up(BO, 5)).answer_class is AnswerClass.RETRY
        assert (
            await gateway.look_up(TriggerEvent("w", "cy", "tx-ana", "{}", None), 5)
        ).answer_class is AnswerClass.RETRY

    async def test_it_asks_once_and_sends_nothing(self, gateway: NovuClient, novu: FakeNovu):
        await gateway.look_up(ANA, 5)
        [request] = await novu.requests()
        assert (request.method, request.path, request.status) == ("GET", "/v1/notifications", 200)

    async def test_a_wrong_key_is_systemic(self, novu: FakeNovu):
        gateway = NovuClient("wrong", novu.url)
        outcome = await gateway.look_up(ANA, 5)
        await gateway.aclose()
        assert (outcome.answer_class, outcome.code) == (AnswerClass.ACCOUNT_ERROR, "http_401")

    async def test_nobody_there_says_nothing(self):
        gateway = NovuClient("key", f"http://127.0.0.1:{free_port()}")
        outcome = await gateway.look_up(ANA, 5)
        await gateway.aclose()
        assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "look_up_failed")

    @pytest.mark.parametrize("hang", [False, True])
    @pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": []}')[:-2]])
    async def test_half_an_answer_says_nothing(self, raw: bytes, *, hang: bool):
        async with answering(raw, hang=hang) as server:
            gateway = NovuClient("key", server.url)
            outcome = await gateway.look_up(ANA, 0.3)
            await gateway.aclose()
        assert outcome.answer_class is AnswerClass.UNKNOWN

    async def test_a_redirect_is_not_followed_with_our_key(self):
        async with answering(reply("200 OK", b'{"data": []}')) as thief:
            redirect = reply("307 Temporary Redirect", b"", f"location: {thief.url}/v1/notifications")
            async with answering(redirect) as server:
                gateway = NovuClient("key", server.url)
                outcome = await gateway.look_up(ANA, 5)
                await gateway.aclose()
        assert outcome.answer_class is AnswerClass.UNKNOWN
        assert thief.requests == []


class TestKeys:
    async def test_nothing_is_known_before_a_success(self, gateway: NovuClient, novu: FakeNovu):
        assert gateway.idempotency_on is None
        await novu.configure(idempotency_store_down=True)
        await gateway.trigger([ANA], "key-1", 5)
        assert gateway.idempotency_on is None

    @pytest.mark.parametrize("events", [[ANA], [ANA, BO]])
    async def test_an_echo_means_on_and_its_absence_off(
        self, gateway: NovuClient, novu: FakeNovu, events: list[TriggerEvent]
    ):
        await gateway.trigger(events, "key-1", 5)
        assert gateway.idempotency_on is True
        await novu.configure(idempotency=False)
        for key in ("key-2", "key-3"):
            await gateway.trigger(events, key, 5)
            assert gateway.idempotency_on is False
        await novu.configure(idempotency=True)
        await gateway.trigger(events, "key-4", 5)
        assert gateway.idempotency_on is True

    async def test_a_stranger_who_answers_teaches_nothing(self):
        async with answering(reply("200 OK", json.dumps({"data": {"status": "odd"}}).encode())) as server:
            gateway = NovuClient("key", server.url)
            await gateway.trigger([ANA], "key-1", 5)
            await gateway.aclose()
        assert gateway.idempotency_on is None
