"""The client against the fake Novu, which logs requests, acceptances and repeats."""

import asyncio
import time
from typing import Any

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu, LoggedRequest
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.models.errors import Unreachable
from dispatcher.novu.client import NovuClient

ACCEPTED = CallResult(AnswerClass.ACCEPTED, "processed")
REPLAYED = CallResult(AnswerClass.ACCEPTED, "processed", replayed=True)


def event(recipient: str = "ana", **fields: Any) -> TriggerEvent:
    """Return one event for a workflow that the fake Novu knows."""
    known: dict[str, Any] = {"recipient": recipient, "transaction_id": f"tx-{recipient}"}
    known |= {"workflow_key": "default-in-app", "payload": "{}", "overrides": None}
    return TriggerEvent(**(known | fields))


async def only_request(novu: FakeNovu) -> LoggedRequest:
    """Return the one request that was made."""
    [request] = await novu.requests()
    return request


async def body_of(novu: FakeNovu, request: LoggedRequest) -> bytes:
    """Return a request's bytes."""
    body = await novu.body(request.seq)
    assert body is not None
    return body


class TestAccepted:
    async def test_one_event_is_one_trigger(self, client: NovuClient, novu: FakeNovu):
        assert await client.trigger([event()], "key-1", 5) == [ACCEPTED]
        request = await only_request(novu)
        assert (request.method, request.path, request.status) == ("POST", "/v1/events/trigger", 201)
        assert (request.transaction_ids, request.subscribers) == (["tx-ana"], ["ana"])
        [effect] = await novu.effects(least=1)
        assert (effect.transaction_id, effect.subscriber, effect.workflow) == ("tx-ana", "ana", "default-in-app")

    @pytest.mark.parametrize("count", [2, 100])
    async def test_many_events_are_one_bulk_call_in_order(self, client: NovuClient, novu: FakeNovu, count: int):
        names = [f"r{place}" for place in range(count)]
        assert await client.trigger([event(name) for name in names], "key-1", 20) == [ACCEPTED] * count
        request = await only_request(novu)
        assert request.path == "/v1/events/trigger/bulk"
        assert request.subscribers == names
        assert request.transaction_ids == [f"tx-{name}" for name in names]
        assert len(await novu.effects(least=1)) == count

    async def test_our_idempotency_key_is_the_one_on_the_wire(self, client: NovuClient, novu: FakeNovu):
        await client.trigger([event("ana")], "n1-ours:0", 5)
        await client.trigger([event("bo"), event("cy")], "b1-ours", 5)
        assert [request.idempotency_key for request in await novu.requests()] == ["n1-ours:0", "b1-ours"]


PAYLOADS = [
    '{"price": 1.10, "tiny": 1e-400, "huge": 1e400, "long": 0.10000000000000000055511151231257827}',
    '{"count": 12345678901234567890123, "minus": -0.0, "exponent": 1E+2}',
    '{"z": 1, "a": 2, "m": {"y": 1, "b": 2}}',
    '{"text": "ü 🚨 \\u00fc \\ud83d\\ude00 \u2028", "quote": "\\"\\\\"}',
    '{ "blanks" : [ 1 ,2 ] }',
    '{"": null, "a": true, "b": []}',
    '{"layoutIdentifier": "0123456789abcdef0123456789abcdef-0"}',
    r'{"backslashes": "\\1 \\g<0> \\n"}',
    '{"deep": ' + "[" * 900 + "]" * 900 + "}",
    "{}",
]


class TestWireBytes:
    @pytest.mark.parametrize("text", PAYLOADS, ids=lambda text: text[:24])
    async def test_payload_and_overrides_go_over_the_wire_byte_for_byte(
        self, client: NovuClient, novu: FakeNovu, text: str
    ):
        await client.trigger([event(payload=text, overrides=text)], "key-1", 5)
        body = await body_of(novu, await only_request(novu))
        assert b'"payload":' + text.encode() in body
        assert b'"overrides":' + text.encode() in body

    async def test_each_event_of_a_bulk_call_carries_its_own_texts(self, client: NovuClient, novu: FakeNovu):
        events = [event(f"r{n}", payload=text, overrides=text) for n, text in enumerate(PAYLOADS)]
        await client.trigger(events, "key-1", 5)
        body = await body_of(novu, await only_request(novu))
        place = 0
        for text in PAYLOADS:
            place = body.index(b'"payload":' + text.encode(), place)
            place = body.index(b'"overrides":' + text.encode(), place)

    async def test_override_keys_unknown_to_the_sdk_are_sent(self, client: NovuClient, novu: FakeNovu):
        overrides = '{"fcm": {"data": {"k": "v"}}, "email": {"from": "x@y.test"}, "providers": {"apns": {"b": 1.0}}}'
        assert await client.trigger([event(overrides=overrides)], "key-1", 5) == [ACCEPTED]
        assert b'"overrides":' + overrides.encode() in await body_of(novu, await only_request(novu))

    async def test_missing_overrides_are_not_sent(self, client: NovuClient, novu: FakeNovu):
        await client.trigger([event()], "key-1", 5)
        assert b"overrides" not in await body_of(novu, await only_request(novu))

    async def test_repeated_call_has_the_same_bytes(self, novu: FakeNovu):
        events = [event("ana", payload=PAYLOADS[0]), event("bo", overrides=PAYLOADS[1])]
        for _ in range(2):
            client = NovuClient(novu.api_key, novu.url)
            await client.trigger(events, "key-1", 5)
            await client.aclose()
        first, second = await novu.requests()
        assert await body_of(novu, first) == await body_of(novu, second)
        assert second.replayed

    async def test_concurrent_calls_do_not_mix_their_payloads(self, client: NovuClient, novu: FakeNovu):
        calls = [client.trigger([event(f"r{n}", payload=f'{{"n": {n}}}')], f"key-{n}", 10) for n in range(30)]
        assert await asyncio.gather(*calls) == [[ACCEPTED]] * 30
        for request in await novu.requests():
            number = request.subscribers[0].removeprefix("r")
            assert f'"payload":{{"n": {number}}}'.encode() in await body_of(novu, request)
            assert request.idempotency_key == f"key-{number}"


class TestIdempotency:
    async def test_repeated_call_has_no_second_effect(self, client: NovuClient, novu: FakeNovu):
        assert await client.trigger([event()], "key-1", 5) == [ACCEPTED]
        assert await client.trigger([event()], "key-1", 5) == [REPLAYED]
        assert [effect.accepted for effect in await novu.effects(least=1)] == [1]

    async def test_repeated_bulk_call_has_no_second_effect(self, client: NovuClient, novu: FakeNovu):
        events = [event("ana"), event("bo", workflow_key="no-such"), event("cy")]
        first = await client.trigger(events, "key-1", 5)
        second = await client.trigger(events, "key-1", 5)
        assert [outcome.answer_class for outcome in second] == [outcome.answer_class for outcome in first]
        assert all(outcome.replayed for outcome in second)
        assert [effect.accepted for effect in await novu.effects(least=1)] == [1, 1]

    async def test_key_used_for_another_body_is_unknown(self, client: NovuClient, novu: FakeNovu):
        await client.trigger([event(payload='{"a": 1, "b": 2}')], "key-1", 5)
        [outcome] = await client.trigger([event(payload='{"b": 2, "a": 1}')], "key-1", 5)
        assert (outcome.answer_class, outcome.code, outcome.new_epoch) == (AnswerClass.UNKNOWN, "key_reused", False)
        assert [effect.accepted for effect in await novu.effects(least=1)] == [1]

    async def test_eight_concurrent_calls_with_one_key_have_one_effect(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(latency_ms=100.0)
        answers = await asyncio.gather(*(client.trigger([event()], "key-1", 5) for _ in range(8)))
        outcomes = [outcome for [outcome] in answers]
        assert outcomes.count(ACCEPTED) == 1
        others = [outcome for outcome in outcomes if outcome != ACCEPTED]
        assert all(outcome == REPLAYED or outcome.code == "http_409" for outcome in others)
        assert any(outcome.answer_class is AnswerClass.THROTTLED and outcome.retry_after == 1 for outcome in others)
        assert [effect.accepted for effect in await novu.effects(least=1)] == [1]

    async def test_replayed_refusal_needs_a_new_key(self, client: NovuClient, novu: FakeNovu):
        bad = event(workflow_key="late")
        [first] = await client.trigger([bad], "key-1", 5)
        [replay] = await client.trigger([bad], "key-1", 5)
        assert (first.answer_class, first.new_epoch) == (AnswerClass.REFUSED, True)
        assert (replay.answer_class, replay.code, replay.new_epoch) == (AnswerClass.RETRY, "http_503", True)
        await novu.add_workflow("late")
        assert await client.trigger([bad], "key-2", 5) == [ACCEPTED]

    async def test_stored_500_needs_a_new_key(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(object_storage=False)
        attached = event(payload='{"attachments": [{"file": "x"}]}')
        [first] = await client.trigger([attached], "key-1", 5)
        [replay] = await client.trigger([attached], "key-1", 5)
        assert (first.answer_class, first.code, first.new_epoch) == (AnswerClass.UNKNOWN, "http_500", True)
        assert (replay.answer_class, replay.code, replay.new_epoch) == (AnswerClass.RETRY, "http_503", True)
        assert await novu.effects(least=1) == []

    async def test_refusal_replayed_as_500_is_not_acceptance(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(replay_errors_as_500=True)
        await client.trigger([event(workflow_key="no-such")], "key-1", 5)
        [outcome] = await client.trigger([event(workflow_key="no-such")], "key-1", 5)
        assert (outcome.answer_class, outcome.new_epoch) == (AnswerClass.UNKNOWN, True)


class TestRefused:
    async def test_unknown_workflow_is_refused(self, client: NovuClient):
        [outcome] = await client.trigger([event(workflow_key="no-such")], "key-1", 5)
        assert (outcome.answer_class, outcome.code) == (AnswerClass.REFUSED, "http_422")
        assert "workflow_not_found" in outcome.detail

    async def test_unknown_workflow_in_a_bulk_call_refuses_only_its_item(self, client: NovuClient, novu: FakeNovu):
        events = [event("ana"), event("bo", workflow_key="no-such"), event("cy")]
        outcomes = await client.trigger(events, "key-1", 5)
        assert [outcome.answer_class for outcome in outcomes] == [
            AnswerClass.ACCEPTED,
            AnswerClass.REFUSED,
            AnswerClass.ACCEPTED,
        ]
        assert "workflow_not_found" in outcomes[1].detail
        assert [effect.subscriber for effect in await novu.effects(least=1)] == ["ana", "cy"]

    async def test_inactive_workflow_is_refused(self, client: NovuClient, novu: FakeNovu):
        await novu.add_workflow("asleep", active=False)
        [alone] = await client.trigger([event(workflow_key="asleep")], "key-1", 5)
        assert (alone.answer_class, alone.code) == (AnswerClass.REFUSED, "trigger_not_active")
        first, second = await client.trigger([event("bo", workflow_key="asleep"), event("cy")], "key-2", 5)
        assert (first.answer_class, second.answer_class) == (AnswerClass.REFUSED, AnswerClass.ACCEPTED)

    async def test_refused_recipient_does_not_affect_the_others(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(refused_recipients=["bo"])
        [alone] = await client.trigger([event("bo")], "key-1", 5)
        assert (alone.answer_class, alone.code) == (AnswerClass.REFUSED, "invalid_recipients")
        outcomes = await client.trigger([event("ana"), event("bo")], "key-2", 5)
        assert [outcome.answer_class for outcome in outcomes] == [AnswerClass.ACCEPTED, AnswerClass.REFUSED]

    async def test_too_large_payload_is_refused_with_novus_message(self, client: NovuClient):
        [outcome] = await client.trigger([event(payload='{"x": "' + "x" * 27 * 1024 * 1024 + '"}')], "key-1", 15)
        assert (outcome.answer_class, outcome.code) == (AnswerClass.REFUSED, "http_413")
        assert outcome.detail == "HTTP 413: Payload Too Large"


class TestAccountErrors:
    @pytest.mark.parametrize("count", [1, 3])
    async def test_wrong_key_is_an_account_error(self, novu: FakeNovu, count: int):
        client = NovuClient("wrong", novu.url)
        outcomes = await client.trigger([event(str(n)) for n in range(count)], "key-1", 5)
        await client.aclose()
        assert [(outcome.answer_class, outcome.code) for outcome in outcomes] == [
            (AnswerClass.ACCOUNT_ERROR, "http_401")
        ] * count
        assert "NOVU_SECRET_KEY" in outcomes[0].detail
        assert "wrong" not in outcomes[0].detail

    async def test_wrong_base_url_is_an_account_error(self, novu: FakeNovu):
        client = NovuClient(novu.api_key, novu.url + "/v2/")
        [outcome] = await client.trigger([event()], "key-1", 5)
        await client.aclose()
        assert (outcome.answer_class, outcome.code) == (AnswerClass.ACCOUNT_ERROR, "http_404")
        assert "NOVU_API_URL" in outcome.detail

    async def test_refused_connection_is_not_sent(self):
        client = NovuClient("key", f"http://127.0.0.1:{free_port()}")
        outcomes = await client.trigger([event("ana"), event("bo")], "key-1", 5)
        await client.aclose()
        assert [(outcome.answer_class, outcome.code) for outcome in outcomes] == [(AnswerClass.RETRY, "not_sent")] * 2

    async def test_novu_without_its_idempotency_store_did_nothing(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(idempotency_store_down=True)
        [outcome] = await client.trigger([event()], "key-1", 5)
        assert (outcome.answer_class, outcome.code, outcome.new_epoch) == (AnswerClass.RETRY, "http_503", False)
        await novu.configure(idempotency_store_down=False)
        assert await client.trigger([event()], "key-1", 5) == [ACCEPTED]

    async def test_slow_answer_times_out_and_is_unknown(self, client: NovuClient, novu: FakeNovu):
        await novu.configure(latency_ms=1500.0)
        started = time.monotonic()
        [outcome] = await client.trigger([event()], "key-1", 0.3)
        assert time.monotonic() - started < 1
        assert (outcome.answer_class, outcome.code, outcome.new_epoch) == (AnswerClass.UNKNOWN, "timeout", False)
        await novu.configure(latency_ms=0.0)
        while not await novu.effects(least=1):  # noqa: ASYNC110  (another process finishes what it started)
            await asyncio.sleep(0.02)
        assert await client.trigger([event()], "key-1", 5) == [REPLAYED]
        assert [effect.accepted for effect in await novu.effects(least=1)] == [1]


class TestOneRequestPerCall:
    @pytest.mark.parametrize("setting", ["idempotency_store_down", "wrong key", "unknown workflow"])
    async def test_sdk_never_repeats_a_call(self, novu: FakeNovu, setting: str):
        if setting == "idempotency_store_down":
            await novu.configure(idempotency_store_down=True)
        client = NovuClient("wrong" if setting == "wrong key" else novu.api_key, novu.url)
        workflow_key = "no-such" if setting == "unknown workflow" else "default-in-app"
        await client.trigger([event(workflow_key=workflow_key)], "key-1", 10)
        await client.trigger([event("bo", workflow_key=workflow_key), event("cy")], "key-2", 10)
        await client.aclose()
        assert len([request for request in await novu.requests() if request.method == "POST"]) == 2


class TestStartCheck:
    async def test_check_passes_when_novu_answers(self, client: NovuClient, novu: FakeNovu):
        await client.check_reachable()
        assert await novu.requests() == []

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:{port}", "http://[::1", "http://127.0.0.1:port", "http://127.0.0.1:99999"]
    )
    async def test_check_without_a_server_names_the_setting(self, url: str):
        client = NovuClient("key", url.format(port=free_port()))
        with pytest.raises(Unreachable, match="NOVU_API_URL"):
            await client.check_reachable()
        await client.aclose()

    async def test_check_of_another_server_names_the_setting(self, novu: FakeNovu):
        client = NovuClient("key", novu.url + "/elsewhere")
        with pytest.raises(Unreachable, match=r"NOVU_API_URL.* HTTP 404"):
            await client.check_reachable()
        await client.aclose()
