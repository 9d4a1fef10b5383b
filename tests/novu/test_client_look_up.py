"""Asking Novu what became of a call, and noticing whether it minds our keys."""

import json

import pytest

from dispatcher.devstack.fake_novu.process import Standin
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import Event, Outcome, Verdict
from dispatcher.novu.client import NovuGateway
from tests.novu.odd_server import answering, reply

ANA = Event("default-in-app", "ana", "tx-ana", "{}", None)
BO = Event("default-in-app", "bo", "tx-bo", "{}", None)
FOUND = Outcome(Verdict.ACCEPTED, "found")


class TestLookUp:
    async def test_a_run_is_found_and_none_is_surely_none(self, gateway: NovuGateway, novu: Standin):
        await gateway.trigger([ANA], "key-1", 5)
        await novu.drained()
        assert await gateway.look_up(ANA, 5) == FOUND
        assert (await gateway.look_up(BO, 5)).verdict is Verdict.RETRY
        assert (await gateway.look_up(Event("w", "cy", "tx-ana", "{}", None), 5)).verdict is Verdict.RETRY

    async def test_it_asks_once_and_sends_nothing(self, gateway: NovuGateway, novu: Standin):
        await gateway.look_up(ANA, 5)
        [request] = await novu.requests()
        assert (request.method, request.path, request.status) == ("GET", "/v1/notifications", 200)

    async def test_a_wrong_key_is_systemic(self, novu: Standin):
        gateway = NovuGateway("wrong", novu.url)
        outcome = await gateway.look_up(ANA, 5)
        await gateway.aclose()
        assert (outcome.verdict, outcome.code) == (Verdict.SYSTEMIC, "http_401")

    async def test_nobody_there_says_nothing(self):
        gateway = NovuGateway("key", f"http://127.0.0.1:{free_port()}")
        outcome = await gateway.look_up(ANA, 5)
        await gateway.aclose()
        assert (outcome.verdict, outcome.code) == (Verdict.AMBIGUOUS, "look_up_failed")

    @pytest.mark.parametrize("hang", [False, True])
    @pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": []}')[:-2]])
    async def test_half_an_answer_says_nothing(self, raw: bytes, *, hang: bool):
        async with answering(raw, hang=hang) as server:
            gateway = NovuGateway("key", server.url)
            outcome = await gateway.look_up(ANA, 0.3)
            await gateway.aclose()
        assert outcome.verdict is Verdict.AMBIGUOUS

    async def test_a_redirect_is_not_followed_with_our_key(self):
        async with answering(reply("200 OK", b'{"data": []}')) as thief:
            redirect = reply("307 Temporary Redirect", b"", f"location: {thief.url}/v1/notifications")
            async with answering(redirect) as server:
                gateway = NovuGateway("key", server.url)
                outcome = await gateway.look_up(ANA, 5)
                await gateway.aclose()
        assert outcome.verdict is Verdict.AMBIGUOUS
        assert thief.requests == []


class TestKeys:
    async def test_nothing_is_known_before_a_success(self, gateway: NovuGateway, novu: Standin):
        assert gateway.honours_keys is None
        await novu.configure(idempotency_store_down=True)
        await gateway.trigger([ANA], "key-1", 5)
        assert gateway.honours_keys is None

    @pytest.mark.parametrize("events", [[ANA], [ANA, BO]])
    async def test_an_echo_means_on_and_its_absence_off(self, gateway: NovuGateway, novu: Standin, events: list[Event]):
        await gateway.trigger(events, "key-1", 5)
        assert gateway.honours_keys is True
        await novu.configure(idempotency=False)
        for key in ("key-2", "key-3"):
            await gateway.trigger(events, key, 5)
            assert gateway.honours_keys is False
        await novu.configure(idempotency=True)
        await gateway.trigger(events, "key-4", 5)
        assert gateway.honours_keys is True

    async def test_a_stranger_who_answers_teaches_nothing(self):
        async with answering(reply("200 OK", json.dumps({"data": {"status": "odd"}}).encode())) as server:
            gateway = NovuGateway("key", server.url)
            await gateway.trigger([ANA], "key-1", 5)
            await gateway.aclose()
        assert gateway.honours_keys is None
