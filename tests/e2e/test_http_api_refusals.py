"""The trigger API refuses: requests without a token, malformed ones, changes without rights, foreign rows."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from tests.e2e.trigger_api import API, ASK, RIGHT, TOKEN, actions, answer_of, granted
from tests.support.stack import WEB, Stack
from tests.support.waits import eventually


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
