"""The answers of Novu 3.19.0, where they differ from those of 2.0.0."""

import json
from typing import Any

import httpx
import pytest

from dispatcher.devstack.fake_novu.events import TO_RULE
from dispatcher.devstack.fake_novu.process import FakeNovu

EVENT: dict[str, Any] = {"name": "default-email", "to": "ana", "payload": {"n": 1}, "transactionId": "t-1"}
TRIGGER = "/v1/events/trigger"


@pytest.mark.parametrize("to", [5, [], "", {"email": "a@b.example"}, ["ana", ""]])
async def test_unusable_recipient_is_a_422(api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any) -> None:
    answer = await api.post(TRIGGER, json=EVENT | {"to": to})
    error = answer.json()
    assert (answer.status_code, error["message"], error["ctx"]) == (422, "Validation Error", {})
    assert error["errors"] == {"general": {"messages": [f"to {TO_RULE}"], "value": "No Value Recorded"}}
    assert "error" not in error
    assert (await fake_novu.summary()).effects == 0


async def test_one_event_without_recipient_refuses_the_bulk_call(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    answer = await api.post(f"{TRIGGER}/bulk", json={"events": [EVENT, EVENT | {"to": ""}]})
    assert answer.status_code == 422
    assert answer.json()["errors"]["general"]["messages"] == [f"events.1.to {TO_RULE}"]
    assert (await fake_novu.summary()).effects == 0


async def test_too_long_bulk_call_repeats_its_input(api: httpx.AsyncClient) -> None:
    body = {"events": [EVENT] * 101}
    answer = await api.post(f"{TRIGGER}/bulk", json=body)
    sentence = "events must contain no more than 100 elements"
    assert answer.status_code == 422
    assert answer.json()["message"] == f"Validation failed for ProcessBulkTriggerCommand: events: {sentence}"
    assert answer.json()["errors"] == {"events": {"messages": [sentence], "value": body}}


async def test_bulk_item_without_payload_names_the_command(api: httpx.AsyncClient) -> None:
    answer = await api.post(f"{TRIGGER}/bulk", json={"events": [{"name": "default-sms", "to": "ana"}]})
    [item] = answer.json()["data"]
    command = "Validation failed for ParseEventRequestMulticastCommand"
    assert item["error"] == [f"{command}: payload: payload should not be null or undefined"]


async def test_replay_of_a_stored_error_is_a_503(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "key"}
    assert (await api.post(TRIGGER, json=EVENT | {"name": "none"}, headers=headers)).status_code == 422
    again = await api.post(TRIGGER, json=EVENT | {"name": "none"}, headers=headers)
    assert (again.status_code, again.headers["idempotency-replay"]) == (503, "true")
    assert (again.json()["message"], again.json()["ctx"]) == ("Service Unavailable", {"statusCode": 503})


async def test_bearer_token_is_unauthorized(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, json=EVENT, headers={"Authorization": "Bearer x.y.z"})
    error = answer.json()
    assert (answer.status_code, error["message"], error["ctx"]) == (401, "Unauthorized", {"statusCode": 401})
    assert "error" not in error


async def test_payload_has_no_limit_below_the_body_parsers(api: httpx.AsyncClient) -> None:
    assert (await api.post(TRIGGER, json=EVENT | {"payload": {"x": "x" * 614_400}})).status_code == 201
    huge = await api.post(TRIGGER, json=EVENT | {"payload": {"x": "x" * 27 * 1024 * 1024}})
    assert (huge.status_code, huge.json()["message"]) == (413, "Payload Too Large")


async def test_broken_json_has_the_words_of_v8(api: httpx.AsyncClient) -> None:
    answer = await api.post(TRIGGER, content=b"{x", headers={"Content-Type": "application/json"})
    assert answer.json()["message"] == "Expected property name or '}' in JSON at position 1 (line 1 column 2)"


async def test_unknown_severity_is_processed_and_never_run(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    answer = await api.post(TRIGGER, content=json.dumps(EVENT | {"overrides": {"severity": "urgent"}}).encode(),
                            headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.json()["data"]["status"] == "processed"
    await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 0
