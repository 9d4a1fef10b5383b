"""The behaviour of Novu 3.19.0 around its answers: rate limits, lists, its lagging worker, and calls at once."""

from collections import Counter
from typing import Any

import anyio
import httpx

from dispatcher.devstack.fake_novu.process import FakeNovu

EVENT: dict[str, Any] = {"name": "default-in-app", "to": "ana", "payload": {"n": 1}, "transactionId": "t-1"}
TRIGGER = "/v1/events/trigger"


async def test_s14_every_call_is_limited_in_its_category(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=60)
    calls = [("DELETE", f"{TRIGGER}/t-1"), ("GET", "/v1/notifications"), ("GET", "/v2/workflows")]
    policies = [(await api.request(*call)).headers["ratelimit-policy"] for call in calls]
    limit = '{};w=5;burst={};comment="token bucket";category="{}";cost="single";serviceLevel="free"'
    expected = [(300, 330, "trigger"), (150, 165, "global"), (100, 110, "configuration")]
    assert policies == [limit.format(*each) for each in expected]


async def test_s14_cancels_and_triggers_share_one_bucket(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(rate_limit=1)
    answers = [await api.delete(f"{TRIGGER}/t-{number}") for number in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert (await api.post(TRIGGER, json=EVENT)).status_code == 429
    assert (await api.get("/v1/notifications")).status_code == 200
    assert (await api.get("/v1/health-check")).status_code == 200


async def test_s15_reset_is_the_time_until_the_next_call_is_allowed(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    await fake_novu.configure(rate_limit=1)
    answers = [await api.post(TRIGGER, json=EVENT) for _ in range(6)]
    resets = [answer.headers["ratelimit-reset"] for answer in answers]
    assert resets == ["0"] * 4 + ["1", "1"]
    assert answers[-1].headers["retry-after"] == "1"


async def test_s18_listed_run_has_the_fields_of_3_19(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await api.post(TRIGGER, json=EVENT)
    await fake_novu.wait_idle()
    [run] = (await api.get("/v1/notifications", params={"transactionId": "t-1"})).json()["data"]
    assert {"topics", "tags", "payload", "to", "severity", "critical", "contextKeys", "_templateId"} <= set(run)
    assert run["to"] == {"subscriberId": "ana"}
    assert all("payload" in job for job in run["jobs"])


async def test_s19_page_of_messages_has_the_total_count(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await api.post(TRIGGER, json=EVENT | {"to": [f"s{number}" for number in range(12)]})
    await fake_novu.wait_idle()
    page = (await api.get("/v1/messages")).json()
    assert (len(page["data"]), page["totalCount"]) == (10, 12)


async def test_s20_listed_workflow_has_status_and_steps(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("whole", steps=["in_app", "email"])
    await fake_novu.add_workflow("asleep", active=False)
    await fake_novu.add_workflow("broken", broken=True)
    await fake_novu.add_workflow("stepless", steps=[])
    listed = (await api.get("/v2/workflows", params={"limit": 100})).json()["data"]["workflows"]
    shown = {row["workflowId"]: row for row in listed}
    statuses = [shown[key]["status"] for key in ("whole", "asleep", "broken", "stepless")]
    assert statuses == ["ACTIVE", "INACTIVE", "ERROR", "ACTIVE"]
    assert (
        [step["type"] for step in shown["whole"]["steps"]]
        == shown["whole"]["stepTypeOverviews"]
        == [
            "in_app",
            "email",
        ]
    )
    assert shown["stepless"]["steps"] == []
    assert not any("active" in row for row in listed)


async def test_s21_health_check_names_database_and_queue(api: httpx.AsyncClient) -> None:
    info = (await api.get("/v1/health-check")).json()["data"]["info"]
    assert set(info) == {"db", "workflowQueue", "apiVersion"}


async def test_s22_one_transaction_runs_twice_while_the_worker_lags(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    await fake_novu.configure(worker_delay_ms=300.0)
    for _ in range(2):
        await api.post(TRIGGER, json=EVENT)
    assert (await api.get("/v1/notifications")).json()["data"] == []
    await fake_novu.wait_idle()
    assert [effect.runs for effect in await fake_novu.effects()] == [2]


async def test_s24_calls_at_once_with_one_key_are_one_effect_and_409s(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    await fake_novu.configure(latency_ms=300.0)
    answers: list[httpx.Response] = []

    async def call() -> None:
        answers.append(await api.post(TRIGGER, json=EVENT, headers={"Idempotency-Key": "key"}, timeout=10))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(call)
    counts = Counter((answer.status_code, "idempotency-replay" in answer.headers) for answer in answers)
    assert counts[201, False] == 1
    assert counts[409, False] >= 1
    links = {answer.headers["link"] for answer in answers if answer.status_code == 409}
    assert links == {"https://docs.novu.co/additional-resources/idempotency"}  # S12
    assert counts[201, False] + counts[201, True] + counts[409, False] == 8
    assert (await fake_novu.summary()).effects == 1
