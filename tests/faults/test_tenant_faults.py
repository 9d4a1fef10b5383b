"""Rows and workflows cannot reach foreign data: another enterprise's workflow, a redirected call, another row."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from dispatcher.models.workflow_contract import WORKFLOW, batch_queue
from tests.faults.waits import effects_are_exactly
from tests.support.proxy import FaultProxy
from tests.support.stack import Stack
from tests.support.waits import eventually


async def workflow_of(stack: Stack, key: str, enterprise: Any) -> int:
    """Return a published workflow of an enterprise."""
    await stack.novu.add_workflow(key)
    workflow = await stack.workflow(key)
    await stack.rows(
        "update notify.ent_notification_workflow set enterprise_id = %s where id = %s", enterprise, workflow
    )
    return workflow


async def test_f101_row_of_a_deleted_workflow_fails_without_a_call(stack: Stack):
    workflow = await stack.workflow("soon-gone")
    row = await stack.notify(workflow=workflow)
    await stack.rows("delete from notify.ent_notification_workflow where id = %s", workflow)
    await stack.running()
    assert await stack.final(row) == ["FAILED"]
    assert "notification_workflow_id is not set" in (await stack.details(row))["error"]
    await stack.rows(
        "alter table notify.ent_notification drop constraint ent_notification_notification_workflow_id_fkey"
    )
    dangling = await stack.notify(workflow=workflow)
    assert await stack.final(dangling) == ["FAILED"]
    assert "names no workflow" in (await stack.details(dangling))["error"]
    assert (await stack.novu.summary()).requests == 0


async def test_f113_workflow_serves_its_own_enterprise_or_all(stack: Stack):
    mine, theirs = uuid4(), uuid4()
    private, public = await workflow_of(stack, "private", mine), await workflow_of(stack, "public", None)
    served = [
        await stack.notify(workflow=private, enterprise_id=mine),
        await stack.notify(workflow=public, enterprise_id=mine),
        await stack.notify(workflow=public, enterprise_id=None),
    ]
    refused = [
        await stack.notify(workflow=private, enterprise_id=theirs),
        await stack.notify(workflow=private, enterprise_id=None),
    ]
    await stack.running()
    assert await stack.final(*served) == ["SENT"] * 3
    assert await stack.final(*refused) == ["FAILED"] * 2
    for row in refused:
        details = await stack.details(row)
        assert details["error"] == "notification_workflow_id names a workflow of another enterprise"
        assert details["dead_letter"] is True
    await effects_are_exactly(stack, 3)


async def test_f112_hostile_overrides_reach_novu_unchanged_and_affect_nothing_else(stack: Stack, to_novu: FaultProxy):
    elsewhere = f"http://127.0.0.1:{to_novu.port}/latest/meta-data"
    hostile: dict[str, Any] = {
        "email": {"to": ["other@example.com"], "bcc": ["other@example.com"], "from": "x", "headers": {"X-Evil": "1"}},
        "providers": {"sendgrid": {"_passthrough": {"body": {"a": 1}, "headers": {"Authorization": "Bearer x"}}}},
        "attachments": [{"file": elsewhere, "name": "../../etc/passwd"}],
        "transactionId": "not-ours",
        "to": "somebody-else",
        "name": "another-workflow",
        "__proto__": {"admin": True},
        "layoutIdentifier": "mark-0",
        "url": elsewhere,
    }
    payload = {"__source": "x", "bridgeUrl": elsewhere, "attachments": [{"file": elsewhere}], "to": "somebody-else"}
    await stack.running()
    recipient = uuid4()
    row = await stack.notify(overrides=json.dumps(hostile), payload=json.dumps(payload), recipients=[recipient])
    assert await stack.final(row) == ["SENT"]
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    body = json.loads(await stack.novu.body(request.seq) or b"")
    assert set(body) == {"name", "to", "payload", "overrides", "transactionId"}
    assert (body["to"], body["name"]) == (str(recipient), "default-in-app")
    assert (body["payload"], body["overrides"]) == (payload, hostile)
    assert body["transactionId"] not in ("not-ours", None)
    assert request.path == "/v1/events/trigger"
    assert to_novu.counts["accepted"] == 0, "no address of a row is ever asked"


async def test_s12_proxies_of_the_environment_are_not_used(stack: Stack, to_novu: FaultProxy):
    proxy = f"http://127.0.0.1:{to_novu.port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    await stack.running(**dict.fromkeys(names, proxy))
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert to_novu.counts["accepted"] == 0


HOSTILE: dict[str, Sequence[Any]] = {
    "unknown rows": [{"notification_ids": [999_999_999, -1, 0]}],
    "ids past bigint": [{"notification_ids": [2**63, -(2**70)]}],
    "words": [{"notification_ids": ["1; drop table notify.ent_notification", "x"]}],
    "no list": [{"notification_ids": "words"}],
    "nested": [{"notification_ids": [[1], {"a": 2}, None]}],
    "fractions": [{"notification_ids": [1.5, True]}],
    "something else": [["a", 1]],
    "nothing": [],
    "null": [None],
    "more fields": [{"notification_ids": [], "dispatcher": {"x": 1}}],
    "100,000 ids": [{"notification_ids": list(range(1, 100_001))}],
}


@pytest.mark.parametrize("batch", [False, True], ids=["hot", "batch"])
async def test_s29_workflow_started_by_hand_changes_no_row(stack: Stack, *, batch: bool):
    process = await stack.running()
    first = (await stack.queues()).first_try
    queue = batch_queue(first) if batch else first
    client = await Client.connect(stack.temporal_address)
    await stack.novu.add_fault("slow_headers", seconds=0.1, times=1)
    later = await stack.notify(scheduled_for="2999-01-01")
    busy = await stack.notify()

    async def in_flight() -> bool:
        return await stack.status(busy) == "PROCESSING"

    await eventually(in_flight, "a row in work")
    theirs = {"rows of others": [{"notification_ids": [later, busy]}]}
    handles = [
        await client.start_workflow(WORKFLOW, args=arguments, id=f"{name} {uuid4()}", task_queue=queue)
        for name, arguments in {**HOSTILE, **theirs}.items()
    ]

    async def ended() -> bool:
        statuses = [(await handle.describe()).status for handle in handles]
        return WorkflowExecutionStatus.RUNNING not in statuses

    await eventually(ended, f"every workflow to end; log:\n{process.read_log()[-2000:]}", 40)
    assert await stack.final(busy) == ["SENT"]
    assert await stack.status(later) == "PENDING"
    assert await stack.value("select count(*) from dispatcher.delivery") == 1
    assert process.popen.poll() is None
    await effects_are_exactly(stack, 1)
