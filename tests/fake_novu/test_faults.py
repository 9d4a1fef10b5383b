"""Scripted faults: which requests a rule matches, what the client sees, and what a repeat with the same key gets."""

from typing import Any

import httpx
import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu
from tests.support.waits import eventually

TRIGGER, BULK = "/v1/events/trigger", "/v1/events/trigger/bulk"


def event(to: str = "ana", **more: Any) -> dict[str, Any]:
    return {"name": "default-email", "to": to, "payload": {}, "transactionId": f"t-{to}", **more}


async def trigger(api: httpx.AsyncClient, to: str = "ana", **more: Any) -> httpx.Response:
    return await api.post(TRIGGER, json=event(to, **more), headers={"Idempotency-Key": f"key-{to}"}, timeout=2)


async def accepted(fake_novu: FakeNovu) -> list[int]:
    return [effect.accepted for effect in await fake_novu.effects(least=1)]


@pytest.mark.parametrize(
    "rule",
    [
        {"recipient": "ben"},
        {"workflow": "default-sms"},
        {"nth": 2},
        {"path": BULK},
        {"times": 1},
        {"recipient": "ben", "nth": 2},
    ],
    ids="-".join,
)
async def test_rule_matches_only_named_requests(api: httpx.AsyncClient, fake_novu: FakeNovu, rule: dict[str, Any]):
    await fake_novu.add_fault("status", status=503, **rule)
    hit: list[int] = []
    for place, (to, name) in enumerate([("ana", "default-email"), ("ben", "default-sms"), ("ben", "default-sms")]):
        answer = await api.post(TRIGGER, json=event(to, name=name))
        hit += [place] if answer.status_code == 503 else []
    meant = {"nth": [1], "path": [], "times": [0], "recipient-nth": [2]}
    assert hit == meant.get("-".join(rule), [1, 2])
    assert await fake_novu.fault_counts() == [len(hit)]


async def test_seeded_probability_is_repeatable(api: httpx.AsyncClient, fake_novu: FakeNovu):
    seen: list[list[int]] = []
    for _ in range(2):
        await fake_novu.clear_faults()
        await fake_novu.add_fault("status", probability=0.3, seed=7, status=502)
        seen.append([(await api.post(TRIGGER, json=event())).status_code for _ in range(40)])
    assert seen[0] == seen[1]
    assert 4 < seen[0].count(502) < 25


async def test_status_of_a_gateway_is_not_stored(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("status", status=503, retry_after="2", message="Service Unavailable", times=1)
    first, again = await trigger(api), await trigger(api)
    assert (first.status_code, first.headers["retry-after"], "idempotency-key" in first.headers) == (503, "2", False)
    assert first.json()["message"] == "Service Unavailable"
    assert (again.status_code, again.headers.get("idempotency-replay")) == (201, None)
    assert await accepted(fake_novu) == [1]


async def test_cached_status_is_repeated_for_its_key(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("cached_status", times=1)
    first, again = await trigger(api), await trigger(api)
    assert (first.status_code, first.headers["idempotency-key"]) == (500, "key-ana")
    assert (again.status_code, again.headers["idempotency-replay"]) == (503, "true")
    assert await accepted(fake_novu) == []


async def test_html_page_of_a_gateway_is_returned(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("html")
    answer = await trigger(api)
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert "<html>" in answer.text
    assert await accepted(fake_novu) == []


async def test_redirect_names_its_place(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("status", status=307, location="http://127.0.0.1:1/")
    assert (await trigger(api)).headers["location"] == "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("kind", "error", "effects"),
    [
        ("reset_before", httpx.ReadError, 0),
        ("reset_after", httpx.ReadError, 1),
        ("half_answer", httpx.RemoteProtocolError, 1),
        ("hang", httpx.ReadTimeout, 0),
        ("silent", httpx.ReadTimeout, 1),
    ],
)
async def test_connection_is_closed_before_or_after_the_effect(
    api: httpx.AsyncClient, fake_novu: FakeNovu, kind: str, error: type[Exception], effects: int
):
    await fake_novu.add_fault(kind, times=1)
    with pytest.raises(error):
        await api.post(TRIGGER, json=event(), headers={"Idempotency-Key": "key-ana"}, timeout=0.3)
    assert await accepted(fake_novu) == [1] * effects
    again = await trigger(api)
    assert (again.status_code, again.headers.get("idempotency-replay") == "true") == (201, effects == 1)
    assert await accepted(fake_novu) == [1]
    assert [request.fault for request in await fake_novu.requests()] == [kind, None]


@pytest.mark.parametrize("kind", ["slow_headers", "slow_body"])
async def test_trickled_answer_arrives_completely(api: httpx.AsyncClient, fake_novu: FakeNovu, kind: str):
    await fake_novu.add_fault(kind, seconds=0.001)
    answer = await trigger(api)
    assert answer.json()["data"]["status"] == "processed"
    assert answer.elapsed.total_seconds() > 0.03


async def test_delayed_call_takes_its_delay(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("delay", seconds=0.1)
    assert (await trigger(api)).elapsed.total_seconds() >= 0.1


async def test_malformed_json_keeps_its_effect(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("malformed", times=1)
    answer = await trigger(api)
    assert answer.status_code == 201
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()
    assert (await trigger(api)).headers["idempotency-replay"] == "true"


async def test_body_can_have_any_bytes(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("body", body="\x00\xff", headers={"Content-Type": "text/plain"})
    answer = await trigger(api)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (201, b"\x00\xff", "text/plain")


async def test_unknown_status_changes_only_the_answer(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("unknown_status", times=1)
    assert [(await trigger(api)).json()["data"]["status"] for _ in range(2)] == ["postponed", "processed"]
    assert await accepted(fake_novu) == [1]


async def test_partial_bulk_answer_omits_results(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("partial_bulk")
    answer = await api.post(BULK, json={"events": [event(name) for name in ("a", "b", "c", "d")]})
    assert len(answer.json()["data"]) == 2
    assert await accepted(fake_novu) == [1] * 4


async def test_item_error_affects_one_event_of_a_bulk_call(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("item_error", recipient="b", message="no luck")
    answer = await api.post(BULK, json={"events": [event(name) for name in ("a", "b")]})
    good, bad = answer.json()["data"]
    assert (good["status"], bad["status"], bad["error"]) == ("processed", "error", ["no luck"])
    assert [effect.subscriber for effect in await fake_novu.effects(least=1)] == ["a"]


@pytest.mark.parametrize("rule", [{"kind": "earthquake"}, {"kind": "hang", "planet": "mars"}])
async def test_impossible_rule_is_refused(fake_novu: FakeNovu, rule: dict[str, str]):
    with pytest.raises(ValueError, match=r"must be|unknown"):
        await fake_novu.add_fault(**rule)
    assert await fake_novu.fault_counts() == []


async def test_reset_removes_the_rules(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("status")
    await fake_novu.reset()
    assert (await trigger(api)).status_code == 201


@pytest.mark.parametrize("kind", ["hang", "silent", "delay"])
async def test_request_ends_when_its_client_hangs_up(api: httpx.AsyncClient, fake_novu: FakeNovu, kind: str):
    await fake_novu.add_fault(kind, seconds=1.5, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await api.post(TRIGGER, json=event(), timeout=0.5)

    async def logged() -> bool:
        return any(0.4 < request.ended_at - request.started_at < 1 for request in await fake_novu.requests())

    await eventually(logged, "a request that ended with its connection")


async def test_request_that_is_answered_late_ends_with_its_answer(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("delay", seconds=0.5, times=1)
    await trigger(api)
    (logged,) = await fake_novu.requests()
    assert 0.5 <= logged.ended_at - logged.started_at < 1.5
