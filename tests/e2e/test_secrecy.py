"""Content of notifications and credentials appear in no log, no history, no ledger and no process list.

Markers are seeded and everything goes wrong that repeats values: refusals that echo them, retries, poison rows, errors
of the database with DETAIL. Then all of it is searched.
"""

from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from tests.support.bad_rows import OUTCOMES_FAIL, OUTCOMES_FAIL_NO_MORE
from tests.support.commands import run_dispatcher
from tests.support.stack import RUN_ROLE, Process, Stack
from tests.support.waits import eventually

PAYLOAD, OVERRIDES, PASSWORD = "marker-of-the-payload", "marker-of-the-overrides", "marker-of-the-password"
TEXT = f'{{"title": "{PAYLOAD}"}}'
DETAIL = "alter table notify.ent_notification add constraint boom check (notification_status <> '{}') not valid"
HEALED = "alter table notify.ent_notification drop constraint boom"
POISON = {
    "array": {"payload": f'["{PAYLOAD}"]'},
    "deep": {"payload": '{"a":' * 6000 + f'"{PAYLOAD}"' + "}" * 6000},
    "digits": {"payload": f'{{"{PAYLOAD}": ' + "7" * 5000 + "}"},
    "large": {"payload": f'{{"x": "{PAYLOAD * 30_000}"}}'},
    "overrides": {"overrides": f'["{OVERRIDES}"]'},
}


async def wait_for_log(process: Process, word: str, times: int = 1) -> None:
    async def told() -> bool:
        return process.read_log().count(word) >= times

    await eventually(told, f"{word}; log:\n{process.read_log()[-2000:]}")


async def histories(stack: Stack) -> bytes:
    """Return every event of every workflow of the stack, as bytes and as text."""
    client = await Client.connect(stack.temporal_address)
    query = f"TaskQueue in {(await stack.queues()).all_names}"
    count = await stack.value("select count(*) from dispatcher.delivery")
    found: dict[str, bytes] = {}

    async def all_there() -> bool:
        async for execution in client.list_workflows(query):
            history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
            events = b"".join(event.SerializeToString() for event in history.events)
            found[f"{execution.id} {execution.run_id}"] = events + history.to_json().encode()
        return len({name.split()[0] for name in found}) >= count

    await eventually(all_there, f"{count} workflows to be listed")
    return b"".join(found.values())


def process_list(process: Process) -> str:
    """Return the command lines of the process and its children, as `ps` shows them to every user."""
    found = ""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            session = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
            if session == process.popen.pid:
                found += (entry / "cmdline").read_text()
        except (OSError, ValueError):
            continue  # it has just ended
    assert "dispatcher" in found
    return found


async def test_s07_s08_s10_s27_markers_appear_nowhere(stack: Stack):
    people = [str(uuid4()) for _ in range(6)]
    echo = f"title must not be {PAYLOAD}, overrides {OVERRIDES}"
    await stack.novu.add_fault("status", status=400, message=echo, recipient=people[0])
    await stack.novu.add_fault("status", status=503, message=echo, recipient=people[1], times=1)
    await stack.novu.add_fault("status", status=500, message=echo, recipient=people[2], times=1)
    await stack.novu.add_fault("reset_after", recipient=people[3], times=1)
    url = stack.url.replace("//postgres@", f"//{RUN_ROLE}:{PASSWORD}@")
    process = await stack.running(
        DATABASE_URL=url, DISPATCHER_ERROR_TEXTS="codes", DISPATCHER_LOG_LEVEL="debug", DISPATCHER_BATCH_SIZE="1"
    )
    values = {"payload": TEXT, "overrides": f'{{"email": {{"subject": "{OVERRIDES}"}}}}'}
    refused, *sent = [await stack.notify(recipients=[person], **values) for person in people[:5]]
    poison = [await stack.notify(**{**values, **columns, "recipients": [people[5]]}) for columns in POISON.values()]
    assert await stack.final(*sent) == ["SENT"] * 4
    assert await stack.final(refused, *poison) == ["FAILED"] * 6
    assert await stack.novu.fault_counts() == [1, 1, 1, 1]
    assert (await stack.details(refused))["results"][0]["error"] == "http_400"

    # The table refuses a claim, then an outcome: PostgreSQL repeats the row in its DETAIL.
    for status, payload, end in (("PROCESSING", TEXT, "SENT"), ("FAILED", POISON["array"]["payload"], "FAILED")):
        before = process.read_log().count('"row_refused"')
        await stack.rows(DETAIL.format(status))
        row = await stack.notify(recipients=[people[4]], **{**values, "payload": payload})
        await wait_for_log(process, '"row_refused"', before + 1)
        await stack.rows(HEALED)
        await stack.rows("update notify.ent_notification set notification_status = 'PENDING' where id = %s", row)
        assert await stack.final(row) == [end]
    # An error that is no row's fault ends a try, so that it reaches Temporal.
    await stack.rows(OUTCOMES_FAIL)
    row = await stack.notify(recipients=[people[4]], **{**values, **POISON["array"]})
    await wait_for_log(process, "RaiseException P0001")
    await stack.rows(OUTCOMES_FAIL_NO_MORE)
    assert await stack.final(row) == ["FAILED"]

    told = await histories(stack)
    assert b"RaiseException P0001" in told, "the database's error did reach Temporal"
    ledger = str(await stack.rows(" union all ".join(LEDGER)))
    queries = str(await stack.rows("select query from pg_stat_activity where application_name like 'dispatcher%%'"))
    outbox = str(await stack.rows("select error_details::text from notify.ent_notification"))
    places = {
        "log": process.read_log(),
        "histories": told.decode(errors="replace"),
        "ledger": ledger,
        "error_details": outbox,
        "pg_stat_activity": queries,
        "process list": process_list(process),
    }
    markers = [PAYLOAD, OVERRIDES, PASSWORD, stack.novu.api_key]
    assert [(place, marker) for place, text in places.items() for marker in markers if marker in text] == []
    named = [(place, person) for place in ("log", "histories", "process list") for person in people]
    assert [(place, person) for place, person in named if person in places[place]] == []
    assert all(person in ledger for person in people[:5]), "the ledger is where they belong"


@pytest.mark.parametrize("status", [400, 401, 503])
async def test_f222_key_that_novu_repeats_is_hidden_everywhere(stack: Stack, status: int):
    key = stack.novu.api_key
    await stack.novu.add_fault("status", status=status, message=f"refused: ApiKey {key}, {key}", times=1)
    process = await stack.running(DISPATCHER_LOG_LEVEL="debug")
    row = await stack.notify()
    await eventually(lambda: hit(stack), "the fault to be hit")
    assert (await stack.final(row, within=30))[0] in ("FAILED", "SENT")
    shown = run_dispatcher("show", str(row), "--json", "--database-url", stack.url, cwd=stack.folder, environment={})
    async with await process.http() as http:
        pages = [(await http.get(page)).text for page in ("/status", "/readyz", "/health/detailed")]
    places = [
        process.read_log(),
        str(await stack.rows(" union all ".join(LEDGER))),
        str(await stack.rows("select error_details::text from notify.ent_notification")),
        shown.stdout + shown.stderr,
        *pages,
    ]
    assert [place for place in places if key in place] == []
    assert "***" in places[0] or status == 503


async def hit(stack: Stack) -> bool:
    return await stack.novu.fault_counts() == [1]


LEDGER = [
    f"select to_jsonb(t)::text from dispatcher.{table} t"
    for table in ("installation", "delivery", "recipient", "node", "action", "migration")
]


async def test_error_text_of_novu_is_kept_unless_only_codes_are_wanted(stack: Stack):
    await stack.novu.add_fault("status", status=400, message="title must be shorter")
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row) == ["FAILED"]
    assert "title must be shorter" in (await stack.details(row))["error"]
