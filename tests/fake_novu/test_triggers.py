"""Triggers through the real novu-py client: what it parses, which error class it raises, and in which order."""

from typing import Any

import httpx
import pytest
from novu_py import Novu, models

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.fake_novu.registry import DEFAULT_WORKFLOWS


def event(**changes: Any) -> dict[str, Any]:
    return {"workflow_id": "default-email", "to": "ana", "payload": {"n": 1}, "transaction_id": "t-1", **changes}


def wire(**changes: Any) -> dict[str, Any]:
    return {"name": "default-email", "to": "ana", "payload": {"n": 1}, "transactionId": "t-1", **changes}


async def trigger(novu: Novu, key: str = "key", **changes: Any) -> models.EventsControllerTriggerResponse:
    body: Any = event(**changes)
    return await novu.trigger_async(trigger_event_request_dto=body, idempotency_key=key)


async def bulk(novu: Novu, *events: dict[str, Any], key: str = "key") -> list[models.TriggerEventResponseDto]:
    body: Any = {"events": list(events)}
    return (await novu.trigger_bulk_async(bulk_trigger_event_dto=body, idempotency_key=key)).result


async def test_sdk_parses_a_success(novu: Novu, fake_novu: FakeNovu) -> None:
    answer = await trigger(novu)
    assert answer.result.acknowledged is True
    assert answer.result.status.value == "processed"
    assert answer.result.transaction_id == "t-1"
    assert answer.headers["idempotency-key"] == ["key"]
    assert [(e.transaction_id, e.subscriber, e.accepted) for e in await fake_novu.effects()] == [("t-1", "ana", 1)]


async def test_missing_transaction_id_is_made_by_the_server(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/events/trigger", json={"name": "default-sms", "to": "ana"})
    assert answer.status_code == 201
    assert answer.json()["data"]["transactionId"]


@pytest.mark.parametrize("key", list(DEFAULT_WORKFLOWS))
async def test_every_xnovu_workflow_is_active(novu: Novu, key: str) -> None:
    assert (await trigger(novu, workflow_id=key)).result.status.value == "processed"


async def test_unknown_workflow_is_a_422_that_the_sdk_cannot_parse(novu: Novu, fake_novu: FakeNovu) -> None:
    with pytest.raises(models.ResponseValidationError) as caught:
        await trigger(novu, workflow_id="nobody-made-this")
    assert caught.value.status_code == 422
    assert '"message":"workflow_not_found"' in caught.value.body
    assert (await fake_novu.summary()).effects == 0


async def test_validation_error_is_an_error_dto(novu: Novu) -> None:
    with pytest.raises(models.ValidationErrorDto) as caught:
        await bulk(novu)
    assert (caught.value.status_code, caught.value.headers["idempotency-key"]) == (422, "key")


async def test_validation_error_of_the_old_version_is_a_400_that_the_sdk_cannot_parse(
    novu: Novu, fake_novu: FakeNovu
) -> None:
    await fake_novu.configure(variant="2.0.0")
    with pytest.raises(models.ResponseValidationError) as caught:
        await bulk(novu)
    assert caught.value.status_code == 400
    assert caught.value.headers["idempotency-key"] == "key"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"to": "ana"}, "name should not be null or undefined"),
        (wire(name=5), "name must be a string"),
        (wire(to=None), "to should not be null or undefined"),
        (wire(payload="text"), "payload must be an object"),
        (wire(overrides=[]), "overrides must be an object"),
        (wire(transactionId=5), "transactionId must be a string"),
    ],
)
async def test_old_version_lists_sentences_in_a_400(
    api: httpx.AsyncClient, fake_novu: FakeNovu, body: Any, sentence: str
) -> None:
    await fake_novu.configure(variant="2.0.0")
    answer = await api.post("/v1/events/trigger", json=body)
    error = answer.json()
    assert answer.status_code == error["statusCode"] == 400
    assert sentence in error["message"]
    assert (error["error"], error["path"]) == ("Bad Request", "/v1/events/trigger")
    assert set(error) == {"statusCode", "timestamp", "path", "message", "error"}
    assert (await fake_novu.summary()).effects == 0


async def test_malformed_json_is_a_400_with_one_sentence(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/events/trigger", content=b'{"name":', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert isinstance(answer.json()["message"], str)


@pytest.mark.parametrize(("variant", "status"), [("3.19.0", 422), ("2.0.0", 400)])
async def test_text_instead_of_json_lacks_its_fields(
    api: httpx.AsyncClient, fake_novu: FakeNovu, variant: str, status: int
) -> None:
    await fake_novu.configure(variant=variant)
    answer = await api.post("/v1/events/trigger", content=b"hello", headers={"Content-Type": "text/plain"})
    assert answer.status_code == status


@pytest.mark.parametrize("count", [0, 101])
async def test_old_version_refuses_an_empty_or_too_long_bulk_completely(
    api: httpx.AsyncClient, fake_novu: FakeNovu, count: int
) -> None:
    await fake_novu.configure(variant="2.0.0")
    answer = await api.post("/v1/events/trigger/bulk", json={"events": [wire()] * count})
    assert answer.status_code == 400
    assert answer.json()["message"] == [
        "events should not be empty" if count == 0 else "events must contain no more than 100 elements"
    ]
    assert (await fake_novu.summary()).effects == 0


async def test_bulk_call_answers_in_order_and_fails_per_item(novu: Novu, fake_novu: FakeNovu) -> None:
    results = await bulk(
        novu,
        event(transaction_id="b-1"),
        event(transaction_id="b-2", workflow_id="nobody-made-this"),
        event(transaction_id="b-3", to="ben"),
    )
    assert [result.status.value for result in results] == ["processed", "error", "processed"]
    assert [result.transaction_id for result in results] == ["b-1", "b-2", "b-3"]
    assert results[1].error == ["workflow_not_found"]
    assert {(e.transaction_id, e.subscriber) for e in await fake_novu.effects()} == {("b-1", "ana"), ("b-3", "ben")}


async def test_bulk_item_needs_a_payload_in_the_old_version(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(variant="2.0.0")
    answer = await api.post("/v1/events/trigger/bulk", json={"events": [{"name": "default-sms", "to": "ana"}, 5]})
    assert answer.status_code == 201
    first, second = answer.json()["data"]
    assert (first["status"], first["error"]) == ("error", ["payload should not be null or undefined"])
    assert second["status"] == "error"


async def test_old_version_omits_the_id_of_unprocessed_events(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(variant="2.0.0")
    good, bad = await bulk(novu, event(), event(workflow_id="nobody-made-this"))
    assert (good.transaction_id, bad.transaction_id) == ("t-1", None)


@pytest.mark.parametrize(
    ("active", "steps", "new", "old"),
    [
        (False, ["in_app"], "trigger_not_active", "trigger_not_active"),
        (True, [], "processed", "no_workflow_steps_defined"),
        (True, [{"type": "email", "active": False}], "processed", "no_workflow_active_steps_defined"),
    ],
)
async def test_unready_workflow_has_its_status(
    novu: Novu, fake_novu: FakeNovu, *, active: bool, steps: list[Any], new: str, old: str
) -> None:
    await fake_novu.add_workflow("unready", active=active, steps=steps)
    assert (await trigger(novu, workflow_id="unready", key="1")).result.status.value == new
    await fake_novu.configure(variant="2.0.0")
    assert (await trigger(novu, workflow_id="unready", key="2")).result.status.value == old
    await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 0


async def test_tenant_must_exist(novu: Novu, fake_novu: FakeNovu) -> None:
    assert (await trigger(novu, key="1", tenant="acme-1")).result.status.value == "no_tenant_found"
    await fake_novu.add_tenant("acme-1")
    assert (await trigger(novu, key="2", tenant={"identifier": "acme-1"})).result.status.value == "processed"
    assert [request.tenants for request in await fake_novu.requests()] == [["acme-1"], ["acme-1"]]


async def test_invalid_recipients_are_refused_only_if_none_is_left(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(refused_recipients=["bad"])
    assert (await trigger(novu, key="1", to="bad")).result.status.value == "invalid_recipients"
    assert (await trigger(novu, key="2", to=["bad", "ben"])).result.status.value == "processed"
    assert [effect.subscriber for effect in await fake_novu.effects()] == ["ben"]


async def test_duplicates_in_one_list_collapse(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu, to=["a1", "a2", {"subscriber_id": "a2"}, "a3"])
    assert [(e.subscriber, e.accepted) for e in await fake_novu.effects()] == [("a1", 1), ("a2", 1), ("a3", 1)]


@pytest.mark.parametrize("variant", ["3.19.0", "2.0.0"])
async def test_self_hosted_novu_accepts_a_payload_above_512_kib(novu: Novu, fake_novu: FakeNovu, variant: str) -> None:
    await fake_novu.configure(variant=variant)
    huge = {"text": "x" * 600_000}
    assert [r.status.value for r in await bulk(novu, event(), event(payload=huge))] == ["processed"] * 2


async def test_old_version_answers_500_without_the_key_above_the_parser_limit(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    await fake_novu.configure(variant="2.0.0")
    body = wire(payload={"text": "x" * 27 * 1024 * 1024})
    answer = await api.post("/v1/events/trigger", json=body, headers={"Idempotency-Key": "key"})
    assert answer.status_code == 500
    assert answer.json()["errorId"]
    assert "idempotency-key" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Missing authorization header"),
        ({"Authorization": "ApiKey wrong"}, "API Key not found"),
        ({"Authorization": "Basic standin-secret-key"}, 'Invalid authentication scheme: "Basic"'),
    ],
)
async def test_missing_or_wrong_credentials_are_a_401(
    fake_novu: FakeNovu, headers: dict[str, str], message: str
) -> None:
    async with httpx.AsyncClient(base_url=fake_novu.url, trust_env=False) as client:
        answer = await client.post("/v1/events/trigger", json=wire(), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["message"] == message
    assert (await fake_novu.summary()).effects == 0


async def test_old_version_names_a_bearer_scheme(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(variant="2.0.0")
    answer = await api.post("/v1/events/trigger", json=wire(), headers={"Authorization": "Bearer standin-secret-key"})
    assert (answer.status_code, answer.json()["message"]) == (401, 'Invalid authentication scheme: "Bearer"')


async def test_wrong_key_is_an_error_dto(fake_novu: FakeNovu) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(models.ErrorDto) as caught:
        Novu(secret_key="wrong", server_url=fake_novu.url, client=client).cancel(transaction_id="t-1", retries=None)
    assert caught.value.status_code == 401


async def test_wrong_base_url_is_a_404_as_error_dto(novu: Novu, fake_novu: FakeNovu) -> None:
    body: Any = event()
    with pytest.raises(models.ErrorDto) as caught:
        await novu.trigger_async(trigger_event_request_dto=body, server_url=f"{fake_novu.url}/api")
    assert caught.value.status_code == 404
    assert "Cannot POST /api/v1/events/trigger" in caught.value.body


async def test_wrong_method_is_a_404(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/events/trigger")
    assert (answer.status_code, answer.json()["message"]) == (404, "Cannot GET /v1/events/trigger")


async def test_broadcast_reaches_every_known_subscriber(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu, key="1", to=["a1", "a2"])
    await fake_novu.wait_idle()
    everyone: Any = {"name": "default-sms", "payload": {}, "transaction_id": "b"}
    await novu.trigger_broadcast_async(trigger_event_to_all_request_dto=everyone, idempotency_key="2")
    await fake_novu.wait_idle()
    reached = await fake_novu.effects(transaction_id="b")
    assert {(e.subscriber, e.accepted, e.runs) for e in reached} == {("*", 1, 0), ("a1", 0, 1), ("a2", 0, 1)}


async def test_key_belongs_to_an_environment(api: httpx.AsyncClient, novu: Novu) -> None:
    mine = (await api.get("/v1/environments/me")).json()["data"]
    assert (mine["name"], mine["type"]) == ("Development", "dev")
    assert models.EnvironmentResponseDto.model_validate(mine).id == mine["_id"]
