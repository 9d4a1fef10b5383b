"""Idempotency-Key as Novu honours it, seen from the wire and through novu-py."""

import json
from collections import Counter
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from novu_py import Novu, models

from dispatcher.devstack.fake_novu.answers import Answer, encode, success
from dispatcher.devstack.fake_novu.events import parse
from dispatcher.devstack.fake_novu.idempotency import IdempotencyStore
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.fake_novu.settings import Config

EVENT: dict[str, Any] = {"name": "default-email", "to": "ana", "payload": {"a": 1, "b": 2}, "transactionId": "t-1"}


async def post(api: httpx.AsyncClient, key: str = "key", body: Any = EVENT, path: str = "") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    return await api.post(f"/v1/events/trigger{path}", content=content, headers=headers)


def replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotency-replay") == "true"


async def effects(fake_novu: FakeNovu) -> int:
    return (await fake_novu.summary()).effects


async def test_retry_gets_the_first_answer_without_a_second_effect(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    first, second = await post(api), await post(api)
    assert first.content == second.content
    assert (replayed(first), replayed(second)) == (False, True)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "key"
    assert [(r.replayed, r.effects) for r in await fake_novu.requests()] == [(False, 1), (True, 0)]
    assert await effects(fake_novu) == 1


async def test_sdk_shows_the_replay_header(novu: Novu) -> None:
    body: Any = {"workflow_id": "default-email", "to": "ana", "transaction_id": "t-1"}
    for expected in (None, ["true"]):
        answer = await novu.trigger_async(trigger_event_request_dto=body, idempotency_key="key")
        assert answer.headers.get("idempotency-replay") == expected


async def test_eight_concurrent_calls_with_one_key_make_one_effect(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(latency_ms=150)
    answers: list[httpx.Response] = []

    async def call() -> None:
        answers.append(await post(api))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(call)
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[409] > 0
    assert sum(answer.status_code == 201 and not replayed(answer) for answer in answers) == 1
    assert set(statuses) == {201, 409}
    assert await effects(fake_novu) == 1


async def test_call_in_progress_is_a_409_with_retry_after(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(latency_ms=300)
    body: Any = {"workflow_id": "default-email", "to": "ana", "transaction_id": "t-1"}
    errors: list[models.ErrorDto] = []

    async def call() -> None:
        try:
            await novu.trigger_async(trigger_event_request_dto=body, idempotency_key="key")
        except models.ErrorDto as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
    assert [error.status_code for error in errors] == [409]
    headers = errors[0].headers
    assert (headers["retry-after"], headers["idempotency-key"]) == ("1", "key")
    assert "link" in headers


async def test_body_hash_ignores_blanks_and_respects_key_order(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await post(api)
    spaced = await post(api, body=json.dumps(EVENT, indent=2).encode())
    assert (spaced.status_code, replayed(spaced)) == (201, True)
    swapped = await post(api, body={**EVENT, "payload": {"b": 2, "a": 1}})
    assert swapped.status_code == 422
    assert "is being reused for a different body" in swapped.json()["message"]
    assert not replayed(swapped)
    assert await effects(fake_novu) == 1


async def test_other_body_under_a_used_key_keeps_the_stored_answer(api: httpx.AsyncClient) -> None:
    await post(api)
    assert (await post(api, body={**EVENT, "to": "ben"})).status_code == 422
    assert replayed(await post(api))


async def test_application_error_is_stored_and_a_new_key_succeeds(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    body = {**EVENT, "name": "made-later"}
    first = await post(api, body=body)
    await fake_novu.add_workflow("made-later")
    second = await post(api, body=body)
    assert [first.status_code, second.status_code] == [422, 503]
    assert [replayed(first), replayed(second)] == [False, True]
    assert first.headers["idempotency-key"] == "key"
    assert (await post(api, "key-2", body)).status_code == 201


@pytest.mark.parametrize(("variant", "status"), [("3.19.0", 503), ("2.0.0", 400)])
async def test_validation_error_is_stored(
    api: httpx.AsyncClient, fake_novu: FakeNovu, variant: str, status: int
) -> None:
    await fake_novu.configure(variant=variant)
    body = {"to": "ana"}
    assert not replayed(await post(api, body=body))
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (status, True)


@pytest.mark.parametrize(("variant", "status"), [("3.19.0", 503), ("2.0.0", 500)])
async def test_handler_error_stays_stored_after_its_cause_is_gone(
    api: httpx.AsyncClient, fake_novu: FakeNovu, variant: str, status: int
) -> None:
    await fake_novu.configure(variant=variant)
    body = {**EVENT, "payload": {"attachments": [{"name": "plan.pdf"}]}}
    await fake_novu.configure(object_storage=False)
    assert (await post(api, body=body)).status_code == 500
    await fake_novu.configure(object_storage=True)
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (status, True)
    assert (await post(api, "key-2", body)).status_code == 201


async def test_newer_novu_may_replay_every_error_as_500(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(replay_errors_as_500=True)
    body = {**EVENT, "name": "nobody-made-this"}
    assert (await post(api, body=body)).status_code == 422
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (500, True)


async def test_refused_status_is_stored(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("asleep", active=False)
    body = {**EVENT, "name": "asleep"}
    await post(api, body=body)
    await fake_novu.add_workflow("asleep", active=True)
    again = await post(api, body=body)
    assert (again.json()["data"]["status"], replayed(again)) == ("trigger_not_active", True)


async def test_wrong_key_is_not_stored(api: httpx.AsyncClient) -> None:
    refused = await api.post("/v1/events/trigger", json=EVENT, headers={"Idempotency-Key": "key", "Authorization": "x"})
    assert refused.status_code == 401
    assert "idempotency-key" not in refused.headers
    assert not replayed(await post(api))


async def test_malformed_json_is_not_stored(api: httpx.AsyncClient) -> None:
    broken = await post(api, body=b'{"name":')
    assert broken.status_code == 400
    assert "idempotency-key" not in broken.headers
    assert (await post(api)).status_code == 201


async def test_stored_answer_expires(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(idempotency_ttl=0.05)
    await post(api)
    with anyio.fail_after(5):
        while replayed(await post(api)):
            await anyio.lowlevel.checkpoint()
    assert await effects(fake_novu) == 2


async def test_key_stuck_in_progress_expires(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(latency_ms=2000, idempotency_progress_ttl=0.8)
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post, api)
        with anyio.fail_after(10):
            while not (await fake_novu.state())["idempotency_records"]:
                await anyio.lowlevel.checkpoint()
            await fake_novu.configure(latency_ms=0)
            while 201 not in statuses:
                statuses.append((await post(api)).status_code)
    assert (statuses[0], statuses[-1]) == (409, 201)
    assert await effects(fake_novu) == 2


async def test_keys_are_scoped_to_the_organization(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_environment("production-key")
    await fake_novu.add_environment("strangers-key", organization="another")
    await post(api)
    for key, expected in (("production-key", True), ("strangers-key", False)):
        api.headers["Authorization"] = f"ApiKey {key}"
        assert replayed(await post(api)) is expected


async def test_single_and_bulk_calls_share_keys(api: httpx.AsyncClient) -> None:
    await post(api)
    assert (await post(api, path="/bulk", body={"events": [EVENT]})).status_code == 422


async def test_delete_ignores_the_key(api: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await api.delete("/v1/events/trigger/t-1", headers={"Idempotency-Key": "key"})
        assert answer.json() == {"data": False}
        assert "idempotency-key" not in answer.headers


@pytest.mark.parametrize(("length", "status"), [(255, 201), (256, 400)])
async def test_key_has_at_most_255_characters(
    api: httpx.AsyncClient, fake_novu: FakeNovu, length: int, status: int
) -> None:
    assert (await post(api, "k" * length)).status_code == status
    assert await effects(fake_novu) == (status == 201)


async def test_call_without_the_store_has_no_effect(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(idempotency_store_down=True)
    body: Any = {"workflow_id": "default-email", "to": "ana"}
    with pytest.raises(models.APIError) as caught:
        await novu.trigger_async(trigger_event_request_dto=body, idempotency_key="key")
    assert caught.value.status_code == 503
    assert await effects(fake_novu) == 0


async def test_disabled_idempotency_neither_echoes_nor_protects(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(idempotency=False)
    for _ in range(2):
        answer = await post(api)
        assert answer.status_code == 201
        assert "idempotency-key" not in answer.headers
    assert [effect.accepted for effect in await fake_novu.effects()] == [2]
    assert (await fake_novu.summary()).duplicate_pairs == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_body_hash_depends_on_values_and_order_only(value: Any) -> None:
    compact, spaced = json.dumps(value, ensure_ascii=False), json.dumps(value, indent=3)
    try:
        compact.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate cannot travel unescaped
    assert encode(parse(compact.encode())) == encode(parse(spaced.encode()))


def test_body_hash_treats_1_and_1_0_as_equal() -> None:
    assert encode(parse(b'{"n":1.0,"m":1e2,"x":0.5}')) == b'{"n":1,"m":100,"x":0.5}'


async def test_oldest_stored_answers_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.devstack.fake_novu.idempotency.MAX_RECORDS", 2)
    store, handled = IdempotencyStore(Config()), list[str]()

    async def ask(key: str) -> None:
        async def handle() -> Answer:
            handled.append(key)
            return success(data=True)

        await store.guard(("organization", key), {}, handle)

    for key in ("a", "b", "b", "c", "a"):
        await ask(key)
    assert handled == ["a", "b", "c", "a"]
    assert len(store) == 2
