"""`dispatcher run --dry-run`: tells what a run would send, and leaves no trace."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from house import RUN, House, Process, eventually

SHADOW = (*RUN, "--dry-run")
TABLES = (
    "notify.ent_notification",
    "notify.ent_notification_workflow",
    *(f"dispatcher.{name}" for name in ("installation", "delivery", "recipient", "node", "action", "migration")),
)
READER = "dispatcher_reader"


async def reader(house: House) -> str:
    """Return the URL of a role that may read the outbox, and nothing else."""
    await house.rows(f"""do $$ begin create role {READER} login; exception when duplicate_object then null; end $$""")
    await house.rows(f"grant usage on schema notify to {READER}")
    await house.rows(f"grant select on notify.ent_notification, notify.ent_notification_workflow to {READER}")
    return house.url.replace("//postgres@", f"//{READER}@")


async def dump(house: House) -> dict[str, list[Any]]:
    """Return every row of the outbox and the ledger, with the transaction that wrote it."""
    return {table: await house.rows(f"select xmin::text, t::text from {table} t order by 1, 2") for table in TABLES}


def told(process: Process, event: str) -> dict[int, dict[str, Any]]:
    """Return what was told of which row."""
    lines = [json.loads(line) for line in process.words().splitlines() if f'"event": "{event}"' in line]
    rows = {line["notification_id"]: line for line in lines}
    assert len(rows) == len(lines), "a row was told of twice"
    return rows


async def test_it_reports_what_a_run_then_sends_and_changes_no_byte(house: House):
    other = await house.workflow("default-email")
    waiting = await house.notify()
    draft = await house.notify(publish_status="DRAFT")
    later = await house.notify(scheduled_for=datetime.now(UTC) + timedelta(hours=1))
    shadow = house.start(SHADOW, DATABASE_URL=await reader(house), NOVU_SECRET_KEY="", TEMPORAL_ADDRESS="127.0.0.1:9")

    async def listening() -> bool:
        assert shadow.popen.poll() is None, shadow.words()
        return '"listening"' in shadow.words() and waiting in told(shadow, "would_send")

    await eventually(listening, "a shadow that listens")
    three = [uuid4(), uuid4(), uuid4()]
    sent = [waiting, await house.notify(recipients=three, workflow=other), await house.notify()]
    wrong = await house.notify(recipients=[])
    soon = await house.notify(scheduled_for=datetime.now(UTC) + timedelta(seconds=1))
    sent.append(soon)
    written = await dump(house)

    async def all_told() -> bool:
        return set(told(shadow, "would_send")) == set(sent) and set(told(shadow, "would_refuse")) == {wrong}

    await eventually(all_told, "a word about every row that is due, and no other")
    would = told(shadow, "would_send")
    assert [would[id_]["recipients"] for id_ in sent] == [1, 3, 1, 1]
    assert would[sent[1]]["novu_workflow"] == "default-email"
    assert told(shadow, "would_refuse")[wrong]["reason"] == "recipients are empty"
    assert 0 <= would[sent[2]]["seconds"] < 5
    assert await dump(house) == written
    assert await house.novu.requests() == []
    assert await shadow.stop() == 0

    await house.running()
    assert await house.final(*sent, wrong) == ["SENT", "SENT", "SENT", "FAILED", "SENT"]
    assert [await house.status(row) for row in (draft, later)] == ["PENDING", "PENDING"]
    accepted = await house.novu.effects(least=1)
    assert sum(row["recipients"] for row in would.values()) == len(accepted)
    assert {effect.subscriber for effect in accepted} >= {str(each) for each in three}
    calls = [request for request in await house.novu.requests() if request.method == "POST"]
    assert sum(row["calls"] for row in would.values()) == len(calls)


async def test_its_port_sends_nothing(house: House):
    token = "0123456789abcdef"
    shadow = house.start(SHADOW, DISPATCHER_HTTP_API="true", DISPATCHER_HTTP_TOKEN=token)
    async with await shadow.http(headers={"authorization": f"Bearer {token}"}) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.post("/api/trigger-async", json={"notificationId": 1})).status_code == 404
    assert await shadow.stop() == 0


async def test_a_role_that_may_not_even_read_is_told_what_it_needs(house: House):
    url = await reader(house)
    await house.rows(f"revoke select on notify.ent_notification_workflow from {READER}")
    shadow = house.start(SHADOW, DATABASE_URL=url)
    await eventually(lambda: ended(shadow), "an end")
    assert shadow.popen.returncode == 2
    assert "a dry run needs SELECT on the outbox" in shadow.words()


async def ended(process: Process) -> bool:
    """Return whether a process has ended."""
    return process.popen.poll() is not None
