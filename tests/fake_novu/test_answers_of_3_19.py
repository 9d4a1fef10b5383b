"""The answers of Novu 3.19.0 that differ from those of 2.0.0, or that a reader would not expect."""

from typing import Any

import httpx
import pytest

from dispatcher.devstack.fake_novu.events import TO_RULE
from dispatcher.devstack.fake_novu.process import FakeNovu

EVENT: dict[str, Any] = {"name": "default-email", "to": "ana", "payload": {"n": 1}, "transactionId": "t-1"}
TRIGGER = "/v1/events/trigger"
BULK = f"{TRIGGER}/bulk"
LINK = "https://docs.novu.co/additional-resources/idempotency"


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in EVENT.items() if name != field}


@pytest.mark.parametrize(
    ("path", "body", "sentences"),
    [
        (TRIGGER, without("name"), ["name should not be null or undefined", "name must be a string"]),
        (TRIGGER, EVENT | {"payload": "text"}, ["payload must be an object"]),
        (TRIGGER, EVENT | {"payload": []}, ["payload must be an object"]),
        (TRIGGER, EVENT | {"overrides": "text"}, ["overrides must be an object"]),
        (TRIGGER, EVENT | {"transactionId": 5}, ["transactionId must be a string"]),
        (BULK, {"events": []}, ["events should not be empty"]),
        (BULK, {}, ["events should not be empty", "events must be an array"]),
    ],
)
async def test_s1_field_that_is_missing_or_of_a_wrong_type_is_a_422(
    api: httpx.AsyncClient, fake_novu: FakeNovu, path: str, body: Any, sentences: list[str]
) -> None:
    answer = await api.post(path, json=body)
    error = answer.json()
    assert (answer.status_code, error["message"], error["ctx"]) == (422, "Validation Error", {})
    assert error["errors"] == {"general": {"messages": sentences, "value": "No Value Recorded"}}
    assert set(error) == {"statusCode", "timestamp", "path", "message", "ctx", "errors"}
    assert (await fake_novu.summary()).effects == 0


async def test_s1_empty_object_and_plain_text_lack_every_field(api: httpx.AsyncClient) -> None:
    empty = await api.post(TRIGGER, json={})
    text = await api.post(TRIGGER, content=b"hello", headers={"Content-Type": "text/plain"})
    named = {sentence.partition(" ")[0] for sentence in empty.json()["errors"]["general"]["messages"]}
    assert (empty.status_code, text.status_code, named) == (422, 422, {"name", "to"})
    assert text.json()["errors"] == empty.json()["errors"]


@pytest.mark.parametrize("to", [5, [], "", {"email": "a@b.example"}, ["ana", ""], [7]])
async def test_s2_unusable_recipient_is_a_422(api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any) -> None:
    answer = await api.post(TRIGGER, json=EVENT | {"to": to})
    assert answer.status_code == 422
    assert answer.json()["errors"]["general"]["messages"] == [f"to {TO_RULE}"]
    assert (await fake_novu.summary()).effects == 0


async def test_s2_missing_recipient_gets_two_sentences(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, json=without("to"))
    expected = ["to should not be null or undefined", f"to {TO_RULE}"]
    assert answer.json()["errors"]["general"]["messages"] == expected


@pytest.mark.parametrize(
    "to", ["ana", {"subscriberId": "ana"}, {"type": "Topic", "topicKey": "floor-3"}, ["ana", {"subscriberId": "ben"}]]
)
async def test_s2_usable_recipient_is_processed(api: httpx.AsyncClient, to: Any) -> None:
    assert (await api.post(TRIGGER, json=EVENT | {"to": to})).json()["data"]["status"] == "processed"


async def test_s3_one_event_without_recipient_refuses_the_bulk_call(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    answer = await api.post(BULK, json={"events": [EVENT, EVENT, EVENT, EVENT | {"to": ""}]})
    assert answer.status_code == 422
    assert answer.json()["errors"]["general"]["messages"] == [f"events.3.to {TO_RULE}"]
    assert (await fake_novu.summary()).effects == 0


async def test_s4_bulk_call_of_101_events_repeats_its_input(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    body = {"events": [EVENT] * 101}
    answer = await api.post(BULK, json=body)
    sentence = "events must contain no more than 100 elements"
    assert answer.status_code == 422
    assert answer.json()["message"] == f"Validation failed for ProcessBulkTriggerCommand: events: {sentence}"
    assert answer.json()["errors"] == {"events": {"messages": [sentence], "value": body}}
    assert (await fake_novu.summary()).effects == 0


async def test_s5_bulk_event_without_payload_names_the_command(api: httpx.AsyncClient) -> None:
    answer = await api.post(BULK, json={"events": [without("payload"), EVENT]})
    bad, good = answer.json()["data"]
    command = "Validation failed for ParseEventRequestMulticastCommand"
    assert (bad["status"], good["status"]) == ("error", "processed")
    assert bad["error"] == [f"{command}: payload: payload should not be null or undefined"]


@pytest.mark.parametrize(
    ("body", "fault", "first"), [({"name": "none"}, "", 422), ({}, "500", 500), ({"name": "strict"}, "", 400)]
)
async def test_s6_replay_of_a_stored_error_is_a_503(
    api: httpx.AsyncClient, fake_novu: FakeNovu, body: dict[str, Any], fault: str, first: int
) -> None:
    await fake_novu.add_workflow("strict", required=["site"])
    if fault:
        await fake_novu.add_fault("cached_status", status=int(fault))
    answers = [await api.post(TRIGGER, json=EVENT | body, headers={"Idempotency-Key": "key"}) for _ in range(2)]
    replay = answers[1]
    assert [answer.status_code for answer in answers] == [first, 503]
    assert (replay.headers["idempotency-key"], replay.headers["idempotency-replay"]) == ("key", "true")
    error = replay.json()
    assert (error["message"], error["ctx"], "error" in error) == ("Service Unavailable", {"statusCode": 503}, False)


@pytest.mark.parametrize(
    ("status", "body", "headers", "ctx"),
    [
        (400, EVENT | {"name": "strict"}, {}, {"error": "Bad Request", "statusCode": 400}),
        (401, EVENT, {"Authorization": "ApiKey wrong"}, {"error": "Unauthorized", "statusCode": 401}),
        (422, EVENT | {"name": "none"}, {}, {}),
    ],
)
async def test_s7_every_error_has_its_context(
    api: httpx.AsyncClient, fake_novu: FakeNovu, status: int, body: Any, headers: dict[str, str], ctx: Any
) -> None:
    await fake_novu.add_workflow("strict", required=["site"])
    answer = await api.post(TRIGGER, json=body, headers=headers)
    assert (answer.status_code, answer.json()["ctx"]) == (status, ctx)


async def test_s7_old_version_has_no_context(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(variant="2.0.0")
    assert "ctx" not in (await api.post(TRIGGER, json=EVENT | {"name": "none"})).json()


async def test_s8_bearer_token_is_unauthorized(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, json=EVENT, headers={"Authorization": "Bearer x.y.z"})
    error = answer.json()
    assert (answer.status_code, error["message"], error["ctx"]) == (401, "Unauthorized", {"statusCode": 401})
    assert "error" not in error


async def test_s9_payload_of_600_kib_is_accepted(api: httpx.AsyncClient) -> None:
    event = EVENT | {"payload": {"x": "x" * 600 * 1024}}
    single, bulk = await api.post(TRIGGER, json=event), await api.post(BULK, json={"events": [event]})
    assert (single.status_code, bulk.status_code) == (201, 201)
    assert bulk.json()["data"][0]["status"] == "processed"


async def test_s10_body_of_27_mb_is_too_large(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, json=EVENT | {"payload": {"x": "x" * 27 * 1024 * 1024}})
    error = answer.json()
    assert (answer.status_code, error["message"], error["ctx"]) == (413, "Payload Too Large", {"statusCode": 413})


async def test_s11_workflow_without_steps_is_processed_and_never_run(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    await fake_novu.add_workflow("stepless", steps=[])
    answer = await api.post(TRIGGER, json=EVENT | {"name": "stepless"})
    assert answer.json()["data"]["status"] == "processed"
    await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 0


async def test_s12_422_of_a_key_links_to_its_documentation(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    key = {"Idempotency-Key": "key"}
    await api.post(TRIGGER, json=EVENT, headers=key)
    reused = await api.post(TRIGGER, json=EVENT | {"to": "ben"}, headers=key)
    assert (reused.status_code, reused.headers["link"]) == (422, LINK)
    await fake_novu.configure(variant="2.0.0")
    assert "link" not in (await api.post(TRIGGER, json=EVENT | {"to": "ben"}, headers=key)).headers


async def test_s13_key_of_256_characters_is_too_long(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, json=EVENT, headers={"Idempotency-Key": "k" * 256})
    assert answer.status_code == 400
    assert answer.json()["message"].endswith(" has exceeded the maximum allowed length of 255 characters")


async def test_s16_payload_that_does_not_fit_the_schema_is_a_400(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("strict", required=["site"])
    sentence = "Payload validation failed: root.site: must have required property 'site'"
    answer = await api.post(TRIGGER, json=EVENT | {"name": "strict"})
    assert (answer.status_code, answer.json()["message"]) == (400, sentence)
    assert (await api.post(TRIGGER, json=EVENT | {"name": "strict", "payload": {"site": 1}})).status_code == 201


async def test_s17_broken_json_has_the_words_of_v8(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, content=b"{x", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"] == "Expected property name or '}' in JSON at position 1 (line 1 column 2)"


async def test_s23_unknown_severity_is_processed_and_never_run(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    answer = await api.post(TRIGGER, json=EVENT | {"overrides": {"severity": "urgent"}})
    assert answer.json()["data"]["status"] == "processed"
    await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 0
