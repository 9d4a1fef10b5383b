"""The meaning of the answers of Novu 3.19.0, which the fake Novu gives, and of 2.0.0 where it differs."""

import pytest

from dispatcher.devstack.fake_novu.events import TO_RULE
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.novu.client import NovuClient

COMMAND = "Validation failed for ParseEventRequestMulticastCommand: payload:"
SCHEMA = "Payload validation failed: root.site: must have required property 'site'"
VARIANTS = pytest.mark.parametrize("variant", ["3.19.0", "2.0.0"])


def event(recipient: str = "ana", payload: str = "{}", overrides: str | None = None, key: str = "k") -> TriggerEvent:
    return TriggerEvent(key, recipient, f"tx-{recipient}", payload, overrides)


@pytest.fixture
async def novu(novu: FakeNovu) -> FakeNovu:
    await novu.add_workflow("k")
    await novu.add_workflow("strict", required=["site"])
    return novu


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (event(payload='"text"'), "HTTP 422: Validation Error; payload must be an object"),
        (event(overrides='"text"'), "HTTP 422: Validation Error; overrides must be an object"),
        (event(""), f"HTTP 422: Validation Error; to {TO_RULE}"),
        (event(key="strict"), f"HTTP 400: {SCHEMA}"),
        (event(key="none"), "HTTP 422: workflow_not_found"),
    ],
)
async def test_f210_refused_event_tells_novus_sentence(
    client: NovuClient, novu: FakeNovu, bad: TriggerEvent, sentence: str
):
    [result] = await client.trigger([bad], "key-1", 5)
    assert (result.answer_class, result.new_epoch, result.detail) == (AnswerClass.REFUSED, True, sentence)
    assert (await novu.summary()).effects == 0


async def test_f210_bulk_call_without_one_recipient_names_its_event(client: NovuClient, novu: FakeNovu):
    events = [event("a"), event("b"), event("c"), event("")]
    results = await client.trigger(events, "key-1", 5)
    assert {(result.answer_class, result.culprits) for result in results} == {(AnswerClass.REFUSED_TOGETHER, (3,))}
    assert (await novu.summary()).effects == 0


async def test_f210_bulk_call_above_26_mb_blames_no_event(client: NovuClient, novu: FakeNovu):
    events = [event(name, payload='{"x": "' + "x" * 14 * 1024 * 1024 + '"}') for name in ("a", "b")]
    results = await client.trigger(events, "key-1", 15)
    assert {(result.answer_class, result.code) for result in results} == {(AnswerClass.REFUSED_TOGETHER, "http_413")}


@VARIANTS
async def test_f210_bulk_event_that_novu_cannot_read_is_refused_alone(client: NovuClient, novu: FakeNovu, variant: str):
    await novu.configure(variant=variant)
    events = [event("a", payload="null"), event("b", key="strict"), event("c")]
    results = await client.trigger(events, "key-1", 5)
    classes = [result.answer_class for result in results]
    assert classes == [AnswerClass.REFUSED, AnswerClass.REFUSED, AnswerClass.ACCEPTED]
    sentence = "payload should not be null or undefined"
    assert results[0].detail == (f"{COMMAND} {sentence}" if variant == "3.19.0" else sentence)
    assert results[1].detail == SCHEMA


@VARIANTS
async def test_f210_replayed_error_of_a_bulk_call_needs_a_new_key(client: NovuClient, novu: FakeNovu, variant: str):
    await novu.configure(variant=variant)
    await novu.add_fault("cached_status", status=500, times=1)
    events = [event("a"), event("b")]
    for _ in range(2):
        results = await client.trigger(events, "key-1", 5)
        assert all(result.new_epoch for result in results)
        assert not any(result.answer_class in (AnswerClass.ACCEPTED, AnswerClass.REFUSED) for result in results)
    assert [result.answer_class for result in await client.trigger(events, "key-2", 5)] == [AnswerClass.ACCEPTED] * 2


@VARIANTS
async def test_f210_empty_trigger_tells_whether_keys_are_honoured(client: NovuClient, novu: FakeNovu, variant: str):
    await novu.configure(variant=variant, idempotency=False)
    assert await client.accepts_triggers()
    assert not await client.honours_keys()
    assert client.idempotency_on is False, "the answer told it"
    await novu.configure(idempotency=True)
    client.idempotency_on = None
    assert await client.honours_keys()
    assert (await novu.summary()).effects == 0


@VARIANTS
async def test_f210_key_that_is_too_long_is_refused(client: NovuClient, novu: FakeNovu, variant: str):
    await novu.configure(variant=variant)
    [result] = await client.trigger([event()], "k" * 256, 5)
    assert (result.answer_class, result.code) == (AnswerClass.REFUSED, "http_400")


async def test_f210_accepted_event_may_never_run(client: NovuClient, novu: FakeNovu):
    await novu.add_workflow("k", steps=[])
    assert [result.answer_class for result in await client.trigger([event()], "key-1", 5)] == [AnswerClass.ACCEPTED]
    await novu.wait_idle()
    assert (await novu.summary()).runs == 0
    assert (await client.look_up(event(), 5)).answer_class is AnswerClass.RETRY, "no run proves nothing"


async def test_f210_old_version_replays_the_refusal_and_the_500(client: NovuClient, novu: FakeNovu):
    await novu.configure(variant="2.0.0", object_storage=False)
    for bad in (event("a", key="none"), event("b", payload='{"attachments": [{"file": "x"}]}')):
        [first] = await client.trigger([bad], bad.recipient, 5)
        [replay] = await client.trigger([bad], bad.recipient, 5)
        assert replay.answer_class is first.answer_class is not AnswerClass.ACCEPTED
        assert (replay.code, replay.new_epoch) == (first.code, True)
