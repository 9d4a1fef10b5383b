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


async def effects(standin: FakeNovu) -> int:
    return (await standin.summary()).effects


async def test_a_retry_gets_the_first_answer_and_makes_no_effect(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    first, second = await post(api), await post(api)
    assert first.content == second.content
    assert (replayed(first), replayed(second)) == (False, True)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "key"
    assert [(r.replayed, r.effects) for r in await standin.requests()] == [(False, 1), (True, 0)]
    assert await effects(standin) == 1


async def test_the_sdk_shows_the_replay_header(novu: Novu) -> None:
    body: Any = {"workflow_id": "default-email", "to": "ana", "transaction_id": "t-1"}
    for expected in (None, ["true"]):
        answer = await novu.trigger_async(trigger_event_request_dto=body, idempotency_key="key")
        assert answer.headers.get("idempotency-replay") == expected


async def test_eight_concurrent_calls_with_one_key_make_one_effect(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.configure(latency_ms=150)
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
    assert await effects(standin) == 1


async def test_a_call_in_progress_is_a_409_that_says_when_to_come_back(novu: Novu, standin: FakeNovu) -> None:
    await standin.configure(latency_ms=300)
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


async def test_blanks_do_not_matter_but_the_order_of_keys_does(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await post(api)
    spaced = await post(api, body=json.dumps(EVENT, indent=2).encode())
    assert (spaced.status_code, replayed(spaced)) == (201, True)
    swapped = await post(api, body={**EVENT, "payload": {"b": 2, "a": 1}})
    assert swapped.status_code == 422
    assert "is being reused for a different body" in swapped.json()["message"]
    assert not replayed(swapped)
    assert await effects(standin) == 1


async def test_another_body_under_a_used_key_does_not_harm_the_stored_answer(api: httpx.AsyncClient) -> None:
    await post(api)
    assert (await post(api, body={**EVENT, "to": "ben"})).status_code == 422
    assert replayed(await post(api))


async def test_an_application_error_is_remembered_and_a_new_key_gets_through(
    api: httpx.AsyncClient, standin: FakeNovu
) -> None:
    body = {**EVENT, "name": "made-later"}
    first = await post(api, body=body)
    await standin.add_workflow("made-later")
    second = await post(api, body=body)
    assert [first.status_code, second.status_code] == [422, 422]
    assert [replayed(first), replayed(second)] == [False, True]
    assert first.headers["idempotency-key"] == "key"
    assert (await post(api, "key-2", body)).status_code == 201


async def test_a_validation_error_is_remembered(api: httpx.AsyncClient) -> None:
    body = {"to": "ana"}
    assert not replayed(await post(api, body=body))
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (400, True)


async def test_a_handler_error_is_remembered_long_after_its_cause_is_gone(
    api: httpx.AsyncClient, standin: FakeNovu
) -> None:
    body = {**EVENT, "payload": {"attachments": [{"name": "plan.pdf"}]}}
    await standin.configure(object_storage=False)
    assert (await post(api, body=body)).status_code == 500
    await standin.configure(object_storage=True)
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (500, True)
    assert (await post(api, "key-2", body)).status_code == 201


async def test_a_newer_novu_may_replay_every_error_as_500(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.configure(replay_errors_as_500=True)
    body = {**EVENT, "name": "nobody-made-this"}
    assert (await post(api, body=body)).status_code == 422
    again = await post(api, body=body)
    assert (again.status_code, replayed(again)) == (500, True)


async def test_a_refused_status_is_remembered(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.add_workflow("asleep", active=False)
    body = {**EVENT, "name": "asleep"}
    await post(api, body=body)
    await standin.add_workflow("asleep", active=True)
    again = await post(api, body=body)
    assert (again.json()["data"]["status"], replayed(again)) == ("trigger_not_active", True)


async def test_a_wrong_key_is_not_remembered(api: httpx.AsyncClient) -> None:
    refused = await api.post("/v1/events/trigger", json=EVENT, headers={"Idempotency-Key": "key", "Authorization": "x"})
    assert refused.status_code == 401
    assert "idempotency-key" not in refused.headers
    assert not replayed(await post(api))


async def test_broken_json_is_not_remembered(api: httpx.AsyncClient) -> None:
    broken = await post(api, body=b'{"name":')
    assert broken.status_code == 400
    assert "idempotency-key" not in broken.headers
    assert (await post(api)).status_code == 201


async def test_a_stored_answer_expires(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.configure(idempotency_ttl=0.05)
    await post(api)
    with anyio.fail_after(5):
        while replayed(await post(api)):
            await anyio.lowlevel.checkpoint()
    assert await effects(standin) == 2


async def test_a_key_stuck_in_progress_becomes_new_again(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.configure(latency_ms=2000, idempotency_progress_ttl=0.8)
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post, api)
        with anyio.fail_after(10):
            while not (await standin.state())["idempotency_records"]:
                await anyio.lowlevel.checkpoint()
            await standin.configure(latency_ms=0)
            while 201 not in statuses:
                statuses.append((await post(api)).status_code)
    assert (statuses[0], statuses[-1]) == (409, 201)
    assert await effects(standin) == 2


async def test_the_scope_is_the_organization(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.add_environment("production-key")
    await standin.add_environment("strangers-key", organization="another")
    await post(api)
    for key, expected in (("production-key", True), ("strangers-key", False)):
        api.headers["Authorization"] = f"ApiKey {key}"
        assert replayed(await post(api)) is expected


async def test_single_and_bulk_share_their_keys(api: httpx.AsyncClient) -> None:
    await post(api)
    assert (await post(api, path="/bulk", body={"events": [EVENT]})).status_code == 422


async def test_a_delete_ignores_the_key(api: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await api.delete("/v1/events/trigger/t-1", headers={"Idempotency-Key": "key"})
        assert answer.json() == {"data": False}
        assert "idempotency-key" not in answer.headers


@pytest.mark.parametrize(("length", "status"), [(255, 201), (256, 400)])
async def test_a_key_has_at_most_255_characters(
    api: httpx.AsyncClient, standin: FakeNovu, length: int, status: int
) -> None:
    assert (await post(api, "k" * length)).status_code == status
    assert await effects(standin) == (status == 201)


async def test_without_its_store_nothing_is_done(novu: Novu, standin: FakeNovu) -> None:
    await standin.configure(idempotency_store_down=True)
    body: Any = {"workflow_id": "default-email", "to": "ana"}
    with pytest.raises(models.APIError) as caught:
        await novu.trigger_async(trigger_event_request_dto=body, idempotency_key="key")
    assert caught.value.status_code == 503
    assert await effects(standin) == 0


async def test_switched_off_it_neither_echoes_nor_protects(api: httpx.AsyncClient, standin: FakeNovu) -> None:
    await standin.configure(idempotency=False)
    for _ in range(2):
        answer = await post(api)
        assert answer.status_code == 201
        assert "idempotency-key" not in answer.headers
    assert [effect.accepted for effect in await standin.effects()] == [2]
    assert (await standin.summary()).duplicate_pairs == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_the_hashed_form_depends_on_values_and_order_only(value: Any) -> None:
    compact, spaced = json.dumps(value, ensure_ascii=False), json.dumps(value, indent=3)
    try:
        compact.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate cannot travel unescaped
    assert encode(parse(compact.encode())) == encode(parse(spaced.encode()))


def test_one_and_one_point_zero_are_the_same_number_to_novu() -> None:
    assert encode(parse(b'{"n":1.0,"m":1e2,"x":0.5}')) == b'{"n":1,"m":100,"x":0.5}'


async def test_the_oldest_answers_go_first_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
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
