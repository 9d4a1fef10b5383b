"""The operator's commands beside a running dispatcher, with the same rows, Temporal and Novu."""

import asyncio
import json
import subprocess
from typing import Any

from tests.support.commands import run_dispatcher
from tests.support.stack import Stack, as_run_role
from tests.support.waits import eventually

EXPIRE = "update dispatcher.delivery set lease_until = clock_timestamp() - interval '1 s' where notification_id = %s"


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the tables' owner."""
    environment = {
        "DATABASE_URL": stack.url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "TEMPORAL_TASK_QUEUE": stack.queue,
    }
    return run_dispatcher(*arguments, cwd=stack.folder, environment=environment)


async def run_command(stack: Stack, *arguments: str) -> tuple[int, Any, str]:
    """Return a command's exit code, its JSON and its stderr; the test's own connections stay open meanwhile."""
    done = await asyncio.to_thread(run, stack, *arguments, "--json")
    return done.returncode, json.loads(done.stdout), done.stderr


async def test_send_test_follows_its_row_to_novu_and_removes_it(stack: Stack):
    await stack.running()
    code, body, words = await run_command(stack, "send-test", "--timeout", "60s", "--cleanup")
    assert (code, body["status"], body["stopped"]) == (0, "SENT", None), words
    assert list(body["hops_ms"]) == ["claimed", "called", "settled"]
    assert all(hop >= 0 for hop in body["hops_ms"].values())
    assert body["total_ms"] > 0
    assert body["temporal_workflow_id"].startswith(f"notification-{body['id']}-")
    assert body["row"] == "deleted"
    assert await stack.rows("select from notify.ent_notification") == []
    state = "select state from dispatcher.recipient where notification_id = %s"
    assert await stack.value(state, body["id"]) == "accepted", "the ledger keeps the recipients that were sent to"


async def test_send_test_names_where_it_stopped(stack: Stack):
    code, body, words = await run_command(stack, "send-test", "--timeout", "1s")
    assert (code, body["status"]) == (1, "PENDING")
    assert "no dispatcher is running" in body["stopped"]
    assert f"dispatcher retract {body['id']}" in words
    await stack.running()
    assert await stack.final(body["id"]) == ["SENT"]
    await stack.workflow("no-such-workflow")
    code, body, words = await run_command(stack, "send-test", "--workflow", "no-such-workflow", "--timeout", "60s")
    assert (code, body["status"]) == (1, "FAILED")
    assert "workflow_not_found" in body["stopped"] or "no-such-workflow" in body["stopped"], words
    done = await asyncio.to_thread(run, stack, "send-test", "--workflow", "nope")
    assert done.returncode == 2
    assert "default-in-app" in done.stderr, "what would do is named"


async def test_dead_letter_is_sent_after_its_cause_is_removed(stack: Stack):
    await stack.running()
    wrong = await stack.workflow("no-such-workflow")
    row = await stack.notify(workflow=wrong)
    assert await stack.final(row) == ["FAILED"]
    right = await stack.workflow()
    await stack.rows("update notify.ent_notification set notification_workflow_id = %s where id = %s", right, row)
    code, body, words = await run_command(stack, "retry", "--dead-letters", "--yes", "--reason", "the key is right now")
    assert (code, body["changed"]) == (0, [row]), words
    assert await stack.final(row) == ["SENT"]
    head = "select generation, dead_lettered_at from dispatcher.delivery where notification_id = %s"
    assert await stack.rows(head, row) == [(2, None)]
    code, body, words = await run_command(stack, "retract", str(row), "--yes")
    assert (code, body["changed"]) == (0, [row]), words

    async def cancelled() -> bool:
        return await stack.value(
            "select bool_and(state = 'cancelled') from dispatcher.recipient"
            " where notification_id = %s and generation = 2",
            row,
        )

    await eventually(cancelled, "what was accepted is taken back at Novu", 90)


async def test_sweep_command_rescues_lost_rows_once(stack: Stack):
    row = await stack.notify(notification_status="PROCESSING")
    code, found, words = await run_command(stack, "sweep", "--dry-run")
    assert (code, found["held_by_nobody"], found["leases_run_out"]) == (0, 1, 0), words
    code, found, words = await run_command(stack, "sweep")
    assert (code, found) == (0, {"dry_run": False, "renewed": 0, "rescued": 0, "adopted": 1, "put_back": 0}), words
    await stack.rows(EXPIRE, row)
    code, found, words = await run_command(stack, "sweep")
    assert (code, found["rescued"]) == (0, 1), words
    assert await stack.rows("select from dispatcher.node") == [], "a sweep by hand is no node"
    await stack.running(DISPATCHER_SWEEP_INTERVAL="500ms", DISPATCHER_LEASE="5s")
    assert await stack.final(row, within=90) == ["SENT"]


async def test_sweep_runs_under_the_role_of_run(stack: Stack):
    stack_url, stack.url = stack.url, as_run_role(stack.url)
    try:
        code, found, words = await run_command(stack, "sweep")
    finally:
        stack.url = stack_url
    assert (code, found["adopted"]) == (0, 0), words
