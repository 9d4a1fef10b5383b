"""The trigger API of real processes over real HTTP: what it sends, what it does not, and what it writes down."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from dispatcher.install import render_grants
from tests.support.stack import RUN_ROLE, WEB, Stack
from tests.support.waits import eventually

TOKEN = "0123456789abcdef0123456789abcdef"
API = {"DISPATCHER_HTTP_API": "true", "DISPATCHER_HTTP_TOKEN": TOKEN, "DISPATCHER_SWEEP_INTERVAL": "1s"}
RIGHT = {"authorization": f"Bearer {TOKEN}"}
ASK = "/api/trigger-async"


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a `run` whose role may change rows by hand."""
    await granted(stack)
    process = await stack.running(**API)
    async with await process.http(headers=RIGHT) as http:
        http.timeout = httpx.Timeout(60)
        yield http


async def granted(stack: Stack) -> None:
    await stack.connection.execute(render_grants("notify.ent_notification", RUN_ROLE, operator=True).encode())


async def answer_of(asked: Any, code: int = 200) -> dict[str, Any]:
    answer = await asked
    assert answer.status_code == code, answer.text
    return answer.json()


async def actions(stack: Stack) -> list[Any]:
    return await stack.rows("select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id")


async def triggered(stack: Stack, notification_id: int) -> int:
    """Return how often Novu accepted the notification."""
    states = "select count(*) from dispatcher.recipient where notification_id = %s and state = 'accepted'"
    return await stack.value(states, notification_id)


async def test_failed_row_is_sent_by_id_and_the_answer_waits(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify(workflow=await stack.workflow("no-such-workflow"))
    assert await stack.final(row) == ["FAILED"]
    await stack.rows(
        "update notify.ent_notification set notification_workflow_id = %s where id = %s", await stack.workflow(), row
    )
    asked = {"notificationId": row, "async": False, "reason": "the key is right now"}
    answer = await answer_of(http.post(ASK, json=asked))
    assert (answer["success"], answer["async"], answer["status"], answer["error"]) == (True, False, "SENT", None)
    assert answer["details"]["successCount"] == answer["details"]["totalRecipients"] == 1
    assert answer["details"]["duration"] >= 0
    assert answer["temporalWorkflowId"].startswith(f"{answer['workflowId']}-")
    assert answer["novuTransactionId"].startswith("n1-")
    [[actor, action, ids, detail]] = await actions(stack)
    assert (actor, action, ids) == (f"{RUN_ROLE} (HTTP API)", "retry", [row])
    assert detail == {"was": {"FAILED": [row]}, "reason": "the key is right now"}


async def test_sent_row_is_sent_again_only_with_resend(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify()
    for _ in range(3):
        answer = await answer_of(http.post(ASK, json={"notificationId": row, "async": False}))
        assert (answer["success"], answer["status"]) == (True, "SENT")
    assert (await triggered(stack, row), await actions(stack)) == (1, [])
    answer = await answer_of(http.post(ASK, json={"notificationId": row, "async": False, "resend": True}))
    assert (answer["success"], await triggered(stack, row)) == (True, 2)


async def test_partly_delivered_row_is_sent_again_to_all_only_with_resend(stack: Stack, http: httpx.AsyncClient):
    good, bad = uuid4(), uuid4()
    await stack.novu.add_fault("status", status=400, recipient=str(bad), times=1)
    row = await stack.notify(recipients=[good, bad])
    await stack.final(row)
    answer = await answer_of(http.post(ASK, json={"notificationId": row}), 409)
    assert "accepted for 1 of 2 recipients" in answer["error"]
    assert answer["status"] == "PARTIAL"
    answer = await answer_of(http.post(ASK, json={"notificationId": row, "async": False, "resend": True}))
    assert (answer["status"], answer["details"]["successCount"]) == ("SENT", 2)


async def test_bulk_trigger_returns_one_result_per_row(stack: Stack, http: httpx.AsyncClient):
    sent, draft, other = await stack.notify(), await stack.notify(publish_status="DRAFT"), await stack.notify()
    ids = [sent, 2**62, draft, other, sent]
    answer = await answer_of(http.post(ASK, json={"notificationIds": ids}))
    assert (answer["success"], answer["async"], answer["successCount"], answer["totalCount"]) == (False, True, 2, 4)
    answer = await answer_of(http.post(ASK, json={"notificationIds": ids, "async": False}))
    assert [each["notificationId"] for each in answer["results"]] == ids[:4], "in the order they were asked for"
    assert [each["success"] for each in answer["results"]] == [True, False, False, True]
    assert "publish_status is DRAFT" in answer["results"][2]["error"]
    assert await stack.status(draft) == "PENDING", "a row that is not published stays as it is"


async def test_scheduled_row_is_not_sent_early(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify(scheduled_for="2999-01-01T00:00:00Z")
    never = await stack.notify(scheduled_for="infinity")
    answer = await answer_of(http.post(ASK, json={"notificationId": row}))
    assert answer["scheduledFor"].startswith("2999-01-01")
    assert answer["startDelay"] > 1e12
    waited = await answer_of(http.post(ASK, json={"notificationId": row, "async": False}))
    assert (waited["success"], waited["status"]) == (False, "SCHEDULED")
    answer = await answer_of(http.post(ASK, json={"notificationId": never}))
    assert (answer["scheduledFor"], "startDelay" in answer) == ("infinity", False)
    state = await answer_of(http.get(ASK, params={"workflowId": f"notification-{row}"}))
    assert (state["status"], state["isRunning"], state["result"]) == ("RUNNING", True, None)
    assert await triggered(stack, row) == 0
    await answer_of(http.post(f"/api/notifications/{row}/cancel"))
    await answer_of(http.post(f"/api/notifications/{never}/cancel"))


async def test_cancelled_row_is_not_sent_or_cancelled_at_novu(stack: Stack, http: httpx.AsyncClient):
    sent, waits = await stack.notify(), await stack.notify(scheduled_for="2999-01-01T00:00:00Z")
    assert await stack.final(sent) == ["SENT"]
    state = await answer_of(http.get(f"/api/temporal/workflow/notification-{sent}/status"))
    assert (state["status"], state["result"]["success"]) == ("COMPLETED", True)
    for _ in range(2):
        await answer_of(http.post(f"/api/notifications/{sent}/cancel", json={"reason": "wrong people"}))
    named = await answer_of(http.post(f"/api/temporal/workflow/notification-{waits}/cancel"))
    assert (named["success"], named["status"], await stack.status(waits)) == (True, "RETRACTED", "RETRACTED")
    assert [(action, ids) for _, action, ids, _ in await actions(stack)] == [("retract", [sent]), ("retract", [waits])]

    async def cancelled() -> bool:
        state = "select state from dispatcher.recipient where notification_id = %s"
        return await stack.value(state, sent) == "cancelled"

    await eventually(cancelled, "cancelled at Novu")
    state = await answer_of(http.get(ASK, params={"workflowId": f"notification-{sent}"}))
    assert (state["status"], state["isRunning"]) == ("CANCELLED", False)
    assert "is retracted" in (await answer_of(http.post(ASK, json={"notificationId": sent}), 409))["error"]


async def test_cancel_of_an_old_workflow_does_not_affect_a_resend(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify()
    first = (await answer_of(http.post(ASK, json={"notificationId": row, "async": False})))["temporalWorkflowId"]
    await answer_of(http.post(ASK, json={"notificationId": row, "async": False, "resend": True}))
    await answer_of(http.post(f"/api/temporal/workflow/{first}/cancel"), 404)
    assert await stack.status(row) == "SENT"
    second = (await answer_of(http.get(f"/api/temporal/workflow/notification-{row}/status")))["temporalWorkflowId"]
    assert second != first
    await answer_of(http.post(f"/api/temporal/workflow/{second}/cancel"))


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_api_refuses_requests_without_the_token(stack: Stack, http: httpx.AsyncClient, method: str):
    row = await stack.notify(scheduled_for="2999-01-01T00:00:00Z")
    paths = [ASK, f"/api/notifications/{row}/cancel", f"/api/temporal/workflow/notification-{row}/cancel"]
    for path in [*paths, f"/api/temporal/workflow/notification-{row}/status", "/api/nothing"]:
        for headers in ({"authorization": ""}, {"authorization": f"Bearer {TOKEN[:-1]}"}):
            answer = await http.request(method, path, headers=headers, content=b'{"notificationId": 1}')
            assert answer.status_code in (401, 429), path
            assert set(answer.json()) == {"error"}
    assert await stack.status(row) == "PENDING"
    assert await actions(stack) == []


BAD = [
    "",
    "{}",
    "[]",
    "null",
    "{",
    "[" * 30_000,
    '{"notificationId": "1; drop table x"}',
    '{"notificationId": "7"}',
    '{"notificationId": 1.5}',
    '{"notificationId": true}',
    '{"notificationId": 0}',
    '{"notificationId": -1}',
    '{"notificationId": 9223372036854775808}',
    '{"notificationId": 1e400}',
    '{"notificationId": ' + "9" * 10_000 + "}",
    '{"notificationId": 1, "notificationIds": [1]}',
    '{"notificationIds": []}',
    '{"notificationIds": 7}',
    '{"notificationIds": {"0": 7}}',
    f'{{"notificationIds": {list(range(1, 502))}}}',
    '{"notificationId": 1, "async": "no"}',
    '{"notificationId": 1, "scheduled_for": "2999-01-01"}',
    '{"notificationId": 1, "reason": "a\\u0000b"}',
    '{"notificationId": 1, "reason": "\\ud800"}',
    f'{{"notificationId": 1, "reason": "{"x" * 1001}"}}',
]


async def test_malformed_request_is_refused_with_a_sentence(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify(publish_status="DRAFT")
    for body in BAD:
        answer = await http.post(ASK, content=body)
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), (body[:80], answer.text)
        assert "drop table" not in answer.text, "what was sent is not repeated"
    assert (await http.post(ASK, content=b'{"notificationId": 1, "reason": "\xff"}')).status_code == 400
    assert (await http.post(ASK, content=b"x" * 70_000)).status_code == 413
    for name in (
        "",
        "x",
        f"notification-{2**63}",
        "notifications-9",
        f"notification-{row}-zz",
        "notification-1;",
        "%00",
    ):
        assert (await http.get(ASK, params={"workflowId": name})).status_code == 400, name
    for number in ("0", "-1", "x", "9" * 400, str(2**63), "1%00"):
        assert (await http.post(f"/api/notifications/{number}/cancel")).status_code == 400, number
    assert (await http.get(ASK, params={"workflowId": f"notification-{2**62}"})).status_code == 404
    assert (await http.post(f"/api/notifications/{2**62}/cancel")).status_code == 404
    assert (await http.put(ASK)).status_code == 405
    assert (await http.get(f"/api/notifications/{row}/cancel")).status_code == 405, "GET changes nothing"
    assert (await http.options(ASK)).status_code == 200
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await http.post(f"/api/notifications/{row}/cancel", headers=headers)).status_code == 403
    assert await stack.status(row) == "PENDING"
    assert (await http.get("/livez")).status_code == 200


async def test_concurrent_resends_send_once(stack: Stack, http: httpx.AsyncClient):
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    answers: list[httpx.Response] = []
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            answers.append(await http.post(ASK, json={"notificationId": row, "resend": True, "async": False}))

        for _ in range(4):
            tasks.start_soon(ask)
    assert {answer.status_code for answer in answers} <= {200, 202}
    await stack.quiet()
    assert await stack.value("select generation from dispatcher.delivery where notification_id = %s", row) == 2


async def test_f163_markup_in_a_row_is_served_as_json(stack: Stack, http: httpx.AsyncClient):
    markup = "<script>alert(1)</script>"
    row = await stack.notify(workflow=await stack.workflow(markup))
    assert await stack.final(row) == ["FAILED"]
    answer = await http.get(ASK, params={"workflowId": f"notification-{row}"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_web_serves_the_api_for_its_enterprises_only(stack: Stack):
    await granted(stack)
    ours, theirs = uuid4(), uuid4()
    mine = await stack.notify(enterprise_id=ours)
    others = await stack.notify(enterprise_id=theirs)
    nobodys = await stack.notify()
    web = stack.start(WEB, **API, DISPATCHER_ENTERPRISE_IDS=str(ours), TEMPORAL_ADDRESS="127.0.0.1:1")
    async with await web.http(headers=RIGHT) as http:

        async def there() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await eventually(there, "a web that has its database")
        for row in (others, nobodys):
            await answer_of(http.post(ASK, json={"notificationId": row}), 404)
            await answer_of(http.get(ASK, params={"workflowId": f"notification-{row}"}), 404)
            await answer_of(http.post(f"/api/notifications/{row}/cancel"), 404)
            assert await stack.status(row) == "PENDING"
        waiting = asyncio.create_task(
            answer_of(http.post(ASK, json={"notificationId": mine, "async": False}, timeout=60))
        )
        await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
        assert (await waiting)["status"] == "SENT", "web asks, and another process sends"
        assert await web.stop(10) == 0


async def test_stopping_web_answers_waiting_requests_with_the_rows_status(stack: Stack):
    await granted(stack)
    row = await stack.notify()
    web = stack.start(WEB, **API)
    async with await web.http(headers=RIGHT) as http:

        async def there() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await eventually(there, "a web that has its database")
        asked = [http.post(ASK, json={"notificationId": row, "async": False}, timeout=60) for _ in range(4)]
        waiting = [asyncio.create_task(answer_of(each, 202)) for each in asked]
        await asyncio.sleep(1)
        assert await web.stop(10) == 0
        assert [(await each)["status"] for each in waiting] == ["PENDING"] * 4
    assert '"level": "error"' not in web.read_log()
    await stack.running(**API)


async def test_change_without_rights_is_refused_with_the_remedy(stack: Stack):
    process = await stack.running(**API)
    row = await stack.notify()
    async with await process.http(headers=RIGHT) as http:
        assert (await answer_of(http.post(ASK, json={"notificationId": row, "async": False}, timeout=60)))["success"]
        answer = await answer_of(http.post(f"/api/notifications/{row}/cancel"), 503)
        assert "grants --operator" in answer["error"]
        assert await stack.status(row) == "SENT"


@pytest.mark.parametrize("program", ["run", "web"])
async def test_api_without_a_token_is_a_one_line_error(stack: Stack, program: str):
    process = stack.start((*WEB[:-1], program), DISPATCHER_HTTP_API="true")
    assert process.popen.wait(30) == 2
    [line] = process.read_log().splitlines()
    assert line.startswith("dispatcher: DISPATCHER_HTTP_API needs DISPATCHER_HTTP_TOKEN")


async def test_api_is_absent_unless_switched_on(stack: Stack):
    process = await stack.running(DISPATCHER_HTTP_TOKEN=TOKEN)
    row = await stack.notify(scheduled_for="2999-01-01T00:00:00Z")
    async with await process.http(headers=RIGHT) as http:
        await answer_of(http.post(ASK, json={"notificationId": row}), 404)
        await answer_of(http.post(f"/api/notifications/{row}/cancel"), 404)
    assert await stack.status(row) == "PENDING"
