"""Asking Novu what became of a call, and noticing whether it minds our keys."""

import json

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu import client as module
from dispatcher.novu.client import NovuClient
from tests.novu.odd_server import answering, reply

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)
BO = TriggerEvent("default-in-app", "bo", "tx-bo", "{}", None)
FOUND = CallResult(AnswerClass.ACCEPTED, "found")


class TestLookUp:
    async def test_look_up_finds_a_run_or_reports_not_found(self, client: NovuClient, novu: FakeNovu):
        await client.trigger([ANA], "key-1", 5)
        await novu.wait_idle()
        assert await client.look_up(ANA, 5) == FOUND
        assert (await client.look_up(BO, 5)).answer_class is AnswerClass.RETRY
        assert (
            await client.look_up(TriggerEvent("w", "cy", "tx-ana", "{}", None), 5)
        ).answer_class is AnswerClass.RETRY

    async def test_look_up_asks_once_and_sends_nothing(self, client: NovuClient, novu: FakeNovu):
        await client.look_up(ANA, 5)
        [request] = await novu.requests()
        assert (request.method, request.path, request.status) == ("GET", "/v1/notifications", 200)

    async def test_look_up_with_a_wrong_key_is_an_account_error(self, novu: FakeNovu):
        client = NovuClient("wrong", novu.url)
        outcome = await client.look_up(ANA, 5)
        await client.aclose()
        assert (outcome.answer_class, outcome.code) == (AnswerClass.ACCOUNT_ERROR, "http_401")

    async def test_look_up_without_a_server_is_unknown(self):
        client = NovuClient("key", f"http://127.0.0.1:{free_port()}")
        outcome = await client.look_up(ANA, 5)
        await client.aclose()
        assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "look_up_failed")

    @pytest.mark.parametrize("hang", [False, True])
    @pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", reply("200 OK", b'{"data": []}')[:-2]])
    async def test_look_up_with_a_partial_answer_is_unknown(self, raw: bytes, *, hang: bool):
        async with answering(raw, hang=hang) as server:
            client = NovuClient("key", server.url)
            outcome = await client.look_up(ANA, 0.3)
            await client.aclose()
        assert outcome.answer_class is AnswerClass.UNKNOWN

    async def test_look_up_does_not_follow_a_redirect_with_our_key(self):
        async with answering(reply("200 OK", b'{"data": []}')) as thief:
            redirect = reply("307 Temporary Redirect", b"", f"location: {thief.url}/v1/notifications")
            async with answering(redirect) as server:
                client = NovuClient("key", server.url)
                outcome = await client.look_up(ANA, 5)
                await client.aclose()
        assert outcome.answer_class is AnswerClass.UNKNOWN
        assert thief.requests == []


class TestIdempotencyDetection:
    async def test_idempotency_is_undecided_before_a_success(self, client: NovuClient, novu: FakeNovu):
        assert client.idempotency_on is None
        await novu.configure(idempotency_store_down=True)
        await client.trigger([ANA], "key-1", 5)
        assert client.idempotency_on is None

    @pytest.mark.parametrize("events", [[ANA], [ANA, BO]])
    async def test_idempotency_is_on_only_if_novu_echoes_the_key(
        self, client: NovuClient, novu: FakeNovu, events: list[TriggerEvent]
    ):
        await client.trigger(events, "key-1", 5)
        assert client.idempotency_on is True
        await novu.configure(idempotency=False)
        for key in ("key-2", "key-3"):
            await client.trigger(events, key, 5)
            assert client.idempotency_on is False
        await novu.configure(idempotency=True)
        await client.trigger(events, "key-4", 5)
        assert client.idempotency_on is True

    async def test_odd_answer_leaves_idempotency_undecided(self):
        async with answering(reply("200 OK", json.dumps({"data": {"status": "odd"}}).encode())) as server:
            client = NovuClient("key", server.url)
            await client.trigger([ANA], "key-1", 5)
            await client.aclose()
        assert client.idempotency_on is None


@pytest.mark.parametrize("honoured", [True, False])
async def test_f172_keys_count_only_once_novu_has_shown_that_it_honours_them(
    client: NovuClient,
    novu: FakeNovu,
    honoured: bool,  # noqa: FBT001
):
    await novu.configure(idempotency=honoured)
    assert client.idempotency_on is None
    assert await client.honours_keys() is honoured
    assert await client.honours_keys() is honoured
    assert len(await novu.requests()) == 1, "an answer is remembered"
    assert (await novu.summary()).effects == 0


async def test_f172_keys_do_not_count_while_novu_does_not_answer(client: NovuClient, novu: FakeNovu):
    await novu.add_fault("status", status=502, times=1)
    assert not await client.honours_keys()
    assert client.idempotency_on is None
    assert await client.honours_keys()


async def test_f172_what_was_learned_about_keys_is_forgotten_after_a_day_without_an_answer(
    client: NovuClient, novu: FakeNovu, monkeypatch: pytest.MonkeyPatch
):
    await client.trigger([ANA], "key-1", 5)
    await novu.configure(idempotency=False)
    assert await client.honours_keys()
    monkeypatch.setattr(module, "KEYS_KNOWN_SECONDS", 0)
    assert not await client.honours_keys()
