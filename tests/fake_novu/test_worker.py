"""Novu's worker after `processed`: the late and racy transactionId check, cancels, and recipients lost silently."""

from typing import Any

import anyio
import httpx
import pytest
from novu_py import Novu, models

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.fake_novu.registry import NovuWorkflow, WorkflowStep
from dispatcher.devstack.fake_novu.runs import RunStore

NEVER = 3600

# novu-py touches a deprecated field of its own whenever it lists notifications.
pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")


async def trigger(novu: Novu, transaction_id: str = "t-1", to: Any = "ana", workflow: str = "default-in-app") -> None:
    body: Any = {"workflow_id": workflow, "to": to, "payload": {}, "transaction_id": transaction_id}
    # No key of ours: these tests are about what the transactionId alone does.
    answer = await novu.trigger_async(trigger_event_request_dto=body)
    assert answer.result.status.value == "processed"


async def runs_of(novu: Novu, transaction_id: str) -> list[models.ActivityNotificationResponseDto]:
    return (await novu.notifications.list_async(request={"transaction_id": transaction_id})).result.data


async def messages_of(novu: Novu, transaction_id: str) -> list[models.MessageResponseDto]:
    return (await novu.messages.retrieve_async(request={"transaction_id": [transaction_id]})).result.data


async def test_run_has_its_subscriber_its_jobs_and_its_messages(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu, workflow="default-fire-assessment")
    await fake_novu.wait_idle()
    (run,) = await runs_of(novu, "t-1")
    assert run.subscriber is not None
    assert run.subscriber.subscriber_id == "ana"
    assert [(job.type.value, job.status) for job in run.jobs or []] == [
        ("trigger", "completed"),
        ("email", "completed"),
        ("in_app", "completed"),
    ]
    assert [message.channel.value for message in await messages_of(novu, "t-1")] == ["email", "in_app"]


async def test_late_duplicate_is_dropped(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu)
    await fake_novu.wait_idle()
    await trigger(novu)
    await fake_novu.wait_idle()
    assert len(await runs_of(novu, "t-1")) == 1
    assert (await fake_novu.summary()).worker_duplicates == 1
    assert [(effect.accepted, effect.runs) for effect in await fake_novu.effects()] == [(2, 1)]


async def test_duplicates_close_together_both_pass(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(worker_delay_ms=500.0)
    await trigger(novu)
    await trigger(novu)
    await fake_novu.wait_idle()
    assert len(await runs_of(novu, "t-1")) == 2


@pytest.mark.parametrize(("concurrency", "expected"), [(200, 2), (1, 1)])
async def test_backlog_lets_distant_duplicates_race(
    novu: Novu, fake_novu: FakeNovu, concurrency: int, expected: int
) -> None:
    await fake_novu.configure(worker_paused=True, worker_concurrency=concurrency)
    await trigger(novu)
    await trigger(novu)
    await fake_novu.configure(worker_paused=False)
    await fake_novu.wait_idle()
    assert len(await runs_of(novu, "t-1")) == expected


async def test_one_bulk_call_with_an_id_twice_gives_two_runs(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    event = {"name": "default-sms", "to": "ana", "payload": {}, "transactionId": "t-1"}
    await api.post("/v1/events/trigger/bulk", json={"events": [event, event]})
    await fake_novu.wait_idle()
    assert [(effect.accepted, effect.runs) for effect in await fake_novu.effects()] == [(2, 2)]


async def test_shared_id_loses_all_recipients_but_one(novu: Novu, fake_novu: FakeNovu) -> None:
    for recipient in ("ana", "ben", "cem"):
        await trigger(novu, to=recipient)
        await fake_novu.wait_idle()
    assert len(await runs_of(novu, "t-1")) == 1


async def test_duplicate_check_is_per_environment(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_environment("production-key")
    for key in (fake_novu.api_key, "production-key"):
        event = {"name": "default-sms", "to": "ana", "transactionId": "t-1"}
        await api.post("/v1/events/trigger", json=event, headers={"Authorization": f"ApiKey {key}"})
        await fake_novu.wait_idle()
    assert [effect.runs for effect in await fake_novu.effects()] == [1, 1]


async def test_cancel_that_comes_too_early_is_false_and_forgotten(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("delayed", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await fake_novu.configure(worker_paused=True)
    await trigger(novu, workflow="delayed")
    assert (await novu.cancel_async(transaction_id="t-1")).result is False
    await fake_novu.configure(worker_paused=False)
    await fake_novu.wait_idle()
    (run,) = await runs_of(novu, "t-1")
    assert [job.status for job in run.jobs or []] == ["completed", "completed", "delayed", "pending"]


async def test_delayed_run_is_cancelled_once(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("delayed", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await trigger(novu, workflow="delayed")
    await fake_novu.wait_idle()
    assert (await novu.cancel_async(transaction_id="t-1")).result is True
    assert (await novu.cancel_async(transaction_id="t-1")).result is False
    (run,) = await runs_of(novu, "t-1")
    assert [job.status for job in run.jobs or []] == ["completed", "completed", "canceled", "canceled"]
    assert [message.channel.value for message in await messages_of(novu, "t-1")] == ["in_app"]


async def test_delayed_run_continues_after_its_delay(novu: Novu, fake_novu: FakeNovu) -> None:
    await fake_novu.add_workflow("delayed", steps=[{"type": "delay", "seconds": 0.05}, "email"])
    await trigger(novu, workflow="delayed")
    with anyio.fail_after(5):
        while not await messages_of(novu, "t-1"):
            await anyio.lowlevel.checkpoint()
    assert (await novu.cancel_async(transaction_id="t-1")).result is False


async def test_cancel_without_a_run_is_false(novu: Novu) -> None:
    assert (await novu.cancel_async(transaction_id="nobody-knows")).result is False


async def test_messages_are_deleted_once(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu)
    await fake_novu.wait_idle()
    await novu.messages.delete_by_transaction_id_async(transaction_id="t-1")
    assert await messages_of(novu, "t-1") == []
    with pytest.raises(models.ErrorDto) as caught:
        await novu.messages.delete_by_transaction_id_async(transaction_id="t-1")
    assert caught.value.status_code == 404
    assert "Invalid transactionId or channel" in caught.value.body


async def test_messages_are_deleted_by_channel(api: httpx.AsyncClient, novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu, workflow="default-fire-assessment")
    await fake_novu.wait_idle()
    answer = await api.delete("/v1/messages/transaction/t-1", params={"channel": "email"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert [message.channel.value for message in await messages_of(novu, "t-1")] == ["in_app"]


async def test_runs_come_in_pages_of_ten(novu: Novu, fake_novu: FakeNovu) -> None:
    await trigger(novu, to=[f"s{number}" for number in range(12)])
    await fake_novu.wait_idle()
    first, second = [
        (await novu.notifications.list_async(request={"transaction_id": "t-1", "page": number})).result
        for number in (0, 1)
    ]
    assert (len(first.data), first.has_more) == (10, True)
    assert (len(second.data), second.has_more) == (2, False)


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ({"subscriberId": "ana", "email": "a@b.c"}, "email must be an email"),
        ({"type": "Topic", "topicKey": "nobody-made-this"}, "Topic nobody-made-this not found"),
    ],
)
async def test_worker_can_lose_an_event_reported_as_processed(
    api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any, reason: str
) -> None:
    await loses_processed_event(api, fake_novu, to, reason)


@pytest.mark.parametrize("to", ["", {"email": "ana@example.com"}])
async def test_worker_of_the_old_version_loses_a_recipient_without_an_id(
    api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any
) -> None:
    await fake_novu.configure(variant="2.0.0")
    await loses_processed_event(api, fake_novu, to, "subscriberId under property to is not configured")


async def loses_processed_event(api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any, reason: str) -> None:
    answer = await api.post("/v1/events/trigger", json={"name": "default-sms", "to": to, "transactionId": "t-1"})
    assert answer.json()["data"]["status"] == "processed"
    await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 0
    assert [loss["reason"] for loss in (await fake_novu.state())["losses"]] == [reason]


@pytest.mark.parametrize("to", [5, [], [7]])
async def test_old_version_processes_an_empty_recipient_without_an_effect(
    api: httpx.AsyncClient, fake_novu: FakeNovu, to: Any
) -> None:
    await fake_novu.configure(variant="2.0.0")
    answer = await api.post("/v1/events/trigger", json={"name": "default-sms", "to": to})
    assert answer.json()["data"]["status"] == "processed"
    await fake_novu.wait_idle()
    summary = await fake_novu.summary()
    assert (summary.effects, summary.runs) == (0, 0)


async def test_lost_event_leaves_no_row_for_the_duplicate_check(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    for email in ("a@b.c", "ana@example.com"):
        to = {"subscriberId": "ana", "email": email}
        await api.post("/v1/events/trigger", json={"name": "default-sms", "to": to, "transactionId": "t-1"})
        await fake_novu.wait_idle()
    assert (await fake_novu.summary()).runs == 1


async def test_topic_fans_out_in_the_worker(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.add_topic("floor-3", ["ana", "ben", "cem", "dora"])
    to = {"type": "Topic", "topicKey": "floor-3", "exclude": ["ben"]}
    event = {"name": "default-sms", "to": to, "transactionId": "t-1", "actor": "cem"}
    await api.post("/v1/events/trigger", json=event)
    await fake_novu.wait_idle()
    tallies = {effect.subscriber: (effect.accepted, effect.runs) for effect in await fake_novu.effects()}
    assert tallies == {"topic:floor-3": (1, 0), "ana": (0, 1), "dora": (0, 1)}


async def test_explicit_null_wipes_a_field_and_an_absent_one_keeps_it(
    api: httpx.AsyncClient, fake_novu: FakeNovu
) -> None:
    for fields in ({"email": "ana@example.com", "phone": "1"}, {"email": None}):
        await api.post("/v1/events/trigger", json={"name": "default-sms", "to": {"subscriberId": "ana", **fields}})
        await fake_novu.wait_idle()
    ana = (await fake_novu.state())["subscribers"]["ana"]
    assert (ana["email"], ana["phone"]) == (None, "1")


def test_oldest_runs_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.devstack.fake_novu.runs.MAX_RUNS", 2)
    runs, workflow = RunStore(), NovuWorkflow("w", (WorkflowStep("sms"),))
    for number in range(4):
        runs.create("env", f"t-{number}", "ana", workflow, 1.0)
    assert [runs.exists("env", f"t-{number}") for number in range(4)] == [False, False, True, True]
    assert len(runs) == 2
