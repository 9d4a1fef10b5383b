"""The rate limiter: off by default, buckets per environment and category, told in headers, before idempotency."""

import httpx

from dispatcher.devstack.fake_novu.process import FakeNovu

EVENT = {"name": "default-email", "to": "ana", "payload": {}, "transactionId": "t-1"}


async def trigger(api: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await api.post("/v1/events/trigger", json=EVENT, headers=headers)


async def test_nothing_is_limited_by_default(api: httpx.AsyncClient) -> None:
    answer = await trigger(api)
    assert answer.status_code == 201
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


async def test_every_limited_answer_has_its_budget(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=30)
    answer = await trigger(api)
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("150", "164")
    assert answer.headers["ratelimit-reset"] == "0"
    policy = '150;w=5;burst=165;comment="token bucket";category="trigger";cost="single";serviceLevel="free"'
    assert answer.headers["ratelimit-policy"] == policy


async def test_empty_bucket_is_a_429_without_effect(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=1)
    answers = [await trigger(api) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    refused = answers[-1]
    assert set(refused.json()) == {"statusCode", "timestamp", "path", "message", "ctx"}
    assert refused.json()["message"] == "API rate limit exceeded"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert (await fake_novu.summary()).effects == 5


async def test_bulk_call_costs_a_hundred(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=60)
    statuses = [(await api.post("/v1/events/trigger/bulk", json={"events": [EVENT]})).status_code for _ in range(4)]
    assert statuses == [201, 201, 201, 429]


async def test_replays_cost_tokens_and_a_429_is_not_stored(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=1)
    for _ in range(5):
        assert (await trigger(api, **{"Idempotency-Key": "one"})).status_code == 201
    refused = await trigger(api, **{"Idempotency-Key": "two"})
    assert refused.status_code == 429
    assert "idempotency-key" not in refused.headers
    await fake_novu.configure(rate_limit=0)
    again = await trigger(api, **{"Idempotency-Key": "two"})
    assert (again.status_code, again.headers.get("idempotency-replay")) == (201, None)


async def test_each_environment_has_its_own_bucket(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=1)
    await fake_novu.add_environment("another-key")
    while (await trigger(api)).status_code == 201:
        pass
    assert (await trigger(api, Authorization="ApiKey another-key")).status_code == 201
