"""Requests that wait for a delivery are limited in time and number; locked rows are retried."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from dispatcher.models.notification import RecipientState
from dispatcher.postgres import lock_retry
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web import api, database_handle
from dispatcher.web.api import TriggerApi
from dispatcher.web.backlog_metrics import BacklogMetrics
from dispatcher.web.health import Health
from dispatcher.web.server import MAX_CONNECTIONS, bind, serving
from dispatcher.web.server_app import guarded
from tests.support.outbox_fixture import OutboxFixture

TOKEN = "0123456789abcdef"
ASK = "/api/trigger-async"


@pytest.fixture
async def condition() -> ProcessHealth:
    return ProcessHealth()


@pytest.fixture
async def http(
    outbox_fixture: OutboxFixture, condition: ProcessHealth, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a database without dispatchers: due rows stay due."""
    monkeypatch.setattr(api, "MAX_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(api, "RESULT_POLL_SECONDS", 0.05)
    for module in (api, lock_retry):
        monkeypatch.setattr(module, "LOCK_RETRY_SECONDS", 0.05)
    asked = TriggerApi(condition, ())
    asked.database.attach(outbox_fixture.pool, "notify.ent_notification")
    transport = httpx.ASGITransport(app=guarded(asked.routes, SecretStr(TOKEN), private=True))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as http:
        yield http


async def waited(http: httpx.AsyncClient, row: int) -> tuple[int, dict[str, Any], float]:
    began = time.monotonic()
    answer = await http.post(ASK, json={"notificationId": row, "async": False})
    return answer.status_code, answer.json(), time.monotonic() - began


async def test_waiting_request_is_answered_after_the_maximum_wait(
    outbox_fixture: OutboxFixture, http: httpx.AsyncClient
):
    code, answer, seconds = await waited(http, await outbox_fixture.notify())
    assert (code, answer["success"], answer["status"]) == (202, False, "PENDING")
    assert 1 <= seconds < 10


async def test_requests_above_the_waiting_limit_are_answered_at_once(
    outbox_fixture: OutboxFixture, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(api, "MAX_WAIT_SECONDS", 3600)
    row = await outbox_fixture.notify()
    crowd = [asyncio.create_task(waited(http, row)) for _ in range(api.MAX_WAITING_REQUESTS + 4)]
    done, waiting = await asyncio.wait(crowd, timeout=5)
    assert (len(done), {task.result()[0] for task in done}) == (4, {202})
    await outbox_fixture.change(row, notification_status="RETRACTED")
    assert {task.result()[0] for task in (await asyncio.wait(waiting, timeout=20))[0]} == {200}
    code, answer, _ = await waited(http, row)
    assert (code, answer["status"]) == (409, "RETRACTED"), "the places are free again"


async def test_silent_database_blocks_a_limited_number_of_requests(outbox_fixture: OutboxFixture):
    asked = TriggerApi(ProcessHealth(), ())
    asked.database.attach(outbox_fixture.pool, "notify.ent_notification")
    listening = bind("127.0.0.1", 0)
    address = listening.getsockname()[:2]
    body = b'{"notificationId": 1}'
    head = f"POST {ASK} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {len(body)}"
    livez = Health(ProcessHealth(), BacklogMetrics(), ()).routes
    async with (
        serving(listening, guarded([*asked.routes, *livez], SecretStr(TOKEN), private=True)),
        httpx.AsyncClient(base_url="http://{}:{}".format(*address), trust_env=False) as http,
    ):
        async with outbox_fixture.owner.transaction():
            await outbox_fixture.owner.execute("lock table notify.ent_notification in access exclusive mode")
            crowd = [await asyncio.open_connection(*address) for _ in range(MAX_CONNECTIONS)]
            for _, writer in crowd:
                writer.write(head.encode() + b"\r\n\r\n" + body)
            full = [asyncio.create_task(reader.readline()) for reader, _ in crowd]
            await asyncio.sleep(1)
            assert (await http.get("/livez")).status_code == 200
            told = [task.result() for task in full if task.done()]
            assert told == [b"HTTP/1.1 503 Service Unavailable\r\n"] * (MAX_CONNECTIONS - api.MAX_PARALLEL_REQUESTS)
        for _, writer in crowd:
            writer.close()


async def test_request_to_a_silent_database_times_out_soon(
    outbox_fixture: OutboxFixture, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database_handle, "DATABASE_TIMEOUT_SECONDS", 0.5)
    async with outbox_fixture.owner.transaction():
        await outbox_fixture.owner.execute("lock table notify.ent_notification in access exclusive mode")
        code, answer, seconds = await waited(http, 1)
    assert (code, "does not answer" in answer["error"]) == (503, True)
    assert seconds < 2.5, "before the server's own limit, which a silent one would not keep"


async def test_stopping_process_answers_waiting_requests(
    outbox_fixture: OutboxFixture, http: httpx.AsyncClient, condition: ProcessHealth
):
    condition.stopping = True
    code, _, seconds = await waited(http, await outbox_fixture.notify())
    assert code == 202
    assert seconds < 1


async def test_locked_row_is_retried_and_then_named(outbox_fixture: OutboxFixture, http: httpx.AsyncClient):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.REFUSED)
    async with outbox_fixture.owner.transaction():
        await outbox_fixture.owner.execute("select from notify.ent_notification where id = %s for update", [row.id])
        code, answer, _ = await waited(http, row.id)
        assert (code, "locked" in answer["error"], answer["status"]) == (409, True, "FAILED")
        assert (await http.post(f"/api/notifications/{row.id}/cancel")).status_code == 409
        waiting = asyncio.create_task(http.post(f"/api/notifications/{row.id}/cancel"))
        await asyncio.sleep(0.1)
    assert (await waiting).status_code == 200
    assert await outbox_fixture.status(row.id) == "RETRACTED"


async def test_concurrent_triggers_of_a_row_send_once(outbox_fixture: OutboxFixture, http: httpx.AsyncClient):
    row = await outbox_fixture.acquired()
    await outbox_fixture.settle(row, RecipientState.REFUSED)
    answers = await asyncio.gather(*(http.post(ASK, json={"notificationId": row.id}) for _ in range(8)))
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "PENDING")}
    assert len(await outbox_fixture.rows("select id from dispatcher.action")) == 1


async def test_row_claimed_during_a_cancel_is_retracted(outbox_fixture: OutboxFixture, http: httpx.AsyncClient):
    row = await outbox_fixture.notify()
    async with outbox_fixture.owner.transaction():
        await outbox_fixture.change(row, notification_status="PROCESSING")
        waiting = asyncio.create_task(http.post(f"/api/notifications/{row}/cancel"))
        await asyncio.sleep(0.1)
    assert (await waiting).status_code == 200
    assert await outbox_fixture.status(row) == "RETRACTED"
