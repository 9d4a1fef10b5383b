"""The trigger API of real processes over real HTTP: what it sends, what it does not, and what it writes down."""

import asyncio
from uuid import uuid4

import anyio
import httpx

from tests.e2e.trigger_api import API, ASK, RIGHT, actions, answer_of, granted
from tests.support.stack import RUN_ROLE, WEB, Stack
from tests.support.waits import eventually


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
