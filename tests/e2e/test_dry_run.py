"""`dispatcher run --dry-run` logs what a run would send, and changes nothing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.stack import RUN, Process, Stack
from tests.support.waits import eventually

DRY_RUN = (*RUN, "--dry-run")
TABLES = (
    "notify.ent_notification",
    "notify.ent_notification_workflow",
    *(f"dispatcher.{name}" for name in ("installation", "delivery", "recipient", "node", "action", "migration")),
)
READER = "dispatcher_reader"


async def reader(stack: Stack) -> str:
    """Return the URL of a role that may read the outbox, and nothing else."""
    await stack.rows(f"""do $$ begin create role {READER} login; exception when duplicate_object then null; end $$""")
    await stack.rows(f"grant usage on schema notify to {READER}")
    await stack.rows(f"grant select on notify.ent_notification, notify.ent_notification_workflow to {READER}")
    return stack.url.replace("//postgres@", f"//{READER}@")


async def dump(stack: Stack) -> dict[str, list[Any]]:
    """Return every row of the outbox and the ledger, with the transaction that wrote it."""
    return {table: await stack.rows(f"select xmin::text, t::text from {table} t order by 1, 2") for table in TABLES}


def reported_rows(process: Process, event: str) -> dict[int, dict[str, Any]]:
    """Return the log line of each row."""
    lines = [json.loads(line) for line in process.read_log().splitlines() if f'"event": "{event}"' in line]
    rows = {line["notification_id"]: line for line in lines}
    assert len(rows) == len(lines), "a row was logged twice"
    return rows


async def test_dry_run_reports_the_rows_of_a_later_run_and_changes_nothing(stack: Stack):
    other = await stack.workflow("default-email")
    waiting = await stack.notify()
    draft = await stack.notify(publish_status="DRAFT")
    later = await stack.notify(scheduled_for=datetime.now(UTC) + timedelta(hours=1))
    dry_run = stack.start(DRY_RUN, DATABASE_URL=await reader(stack), NOVU_SECRET_KEY="", TEMPORAL_ADDRESS="127.0.0.1:9")

    async def listening() -> bool:
        assert dry_run.popen.poll() is None, dry_run.read_log()
        return '"listening"' in dry_run.read_log() and waiting in reported_rows(dry_run, "would_send")

    await eventually(listening, "a dry_run that listens")
    three = [uuid4(), uuid4(), uuid4()]
    sent = [waiting, await stack.notify(recipients=three, workflow=other), await stack.notify()]
    wrong = await stack.notify(recipients=[])
    soon = await stack.notify(scheduled_for=datetime.now(UTC) + timedelta(seconds=1))
    sent.append(soon)
    written = await dump(stack)

    async def all_told() -> bool:
        return set(reported_rows(dry_run, "would_send")) == set(sent) and set(
            reported_rows(dry_run, "would_refuse")
        ) == {wrong}

    await eventually(all_told, "a word about every row that is due, and no other")
    would = reported_rows(dry_run, "would_send")
    assert [would[id_]["recipients"] for id_ in sent] == [1, 3, 1, 1]
    assert would[sent[1]]["novu_workflow"] == "default-email"
    assert reported_rows(dry_run, "would_refuse")[wrong]["reason"] == "recipients are empty"
    assert 0 <= would[sent[2]]["seconds"] < 5
    assert await dump(stack) == written
    assert await stack.novu.requests() == []
    assert await dry_run.stop() == 0

    await stack.running()
    assert await stack.final(*sent, wrong) == ["SENT", "SENT", "SENT", "FAILED", "SENT"]
    assert [await stack.status(row) for row in (draft, later)] == ["PENDING", "PENDING"]
    accepted = await stack.novu.effects(least=1)
    assert sum(row["recipients"] for row in would.values()) == len(accepted)
    assert {effect.subscriber for effect in accepted} >= {str(each) for each in three}
    calls = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert sum(row["calls"] for row in would.values()) == len(calls)


async def test_http_port_of_a_dry_run_sends_nothing(stack: Stack):
    token = "0123456789abcdef"
    dry_run = stack.start(DRY_RUN, DISPATCHER_HTTP_API="true", DISPATCHER_HTTP_TOKEN=token)
    async with await dry_run.http(headers={"authorization": f"Bearer {token}"}) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.post("/api/trigger-async", json={"notificationId": 1})).status_code == 404
    assert await dry_run.stop() == 0


async def test_dry_run_names_the_read_rights_it_needs(stack: Stack):
    url = await reader(stack)
    await stack.rows(f"revoke select on notify.ent_notification_workflow from {READER}")
    dry_run = stack.start(DRY_RUN, DATABASE_URL=url)
    await eventually(lambda: ended(dry_run), "an end")
    assert dry_run.popen.returncode == 2
    assert "a dry run needs SELECT on the outbox" in dry_run.read_log()


async def ended(process: Process) -> bool:
    """Return whether a process has ended."""
    return process.popen.poll() is not None
