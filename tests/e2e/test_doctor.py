"""`dispatcher doctor` beside real servers: all is well, and then one thing at a time is not."""

import asyncio
import socket
import time

import pytest

from dispatcher import doctor
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.devstack.processes import free_port
from dispatcher.install.files import index_statements
from tests.support.run_doctor import run, run_doctor
from tests.support.stack import Stack, as_run_role
from tests.support.waits import eventually


async def test_doctor_passes_beside_a_running_dispatcher(stack: Stack):
    await stack.running()
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    before = await stack.novu.summary()

    async def healthy() -> bool:
        found = await run_doctor(stack)
        return (found.code, found.verdicts("pass")) == (0, ["configuration", *doctor.check_names()])

    await eventually(healthy, f"everything passed; {await run_doctor(stack)}", 60)
    found = await run_doctor(stack, DATABASE_URL=as_run_role(stack.url))
    assert (found.code, found.verdicts("skipped"), found.verdicts("fail")) == (0, ["definitions"], [])
    assert "lacks SELECT on notify.ent_notification" in found.checks["definitions"]["value"]
    after = await stack.novu.summary()
    assert (after.effects, after.runs) == (before.effects, before.runs), "nothing was sent to anybody"
    assert await stack.counts() == {"SENT": 1}


async def test_dispatcher_silent_for_a_minute_is_reported_missing(stack: Stack):
    await stack.rows(
        "insert into dispatcher.node (id, role, host, version, mode, seen_at)"
        " values ('old', 'all', 'h', '1', 'EVENT', clock_timestamp() - interval '61 s')"
    )
    found = await run_doctor(stack, DISPATCHER_SWEEP_INTERVAL="30s")
    assert found.checks["nodes"]["value"] == "no dispatcher is running"


async def test_doctor_prints_each_check_with_its_remedy(stack: Stack):
    done = await asyncio.to_thread(run, stack, NOVU_SECRET_KEY="not-the-key")
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("FAIL     novu key       "))
    assert "HTTP 401 API Key not found" in lines[at]
    assert lines[at + 1].startswith("           -> copy the environment's API key")
    assert lines[at + 2] == "skipped  idempotency    because novu key failed"
    assert done.returncode == 1


CLOSED = f"127.0.0.1:{free_port()}"
BY_SETTINGS: dict[str, tuple[dict[str, str], str, str, str, int]] = {
    "an unknown name": ({"DISPATCHER_LEASEE": "5s"}, "configuration", "fail", "did you mean DISPATCHER_LEASE?", 2),
    "no database": ({"DATABASE_URL": ""}, "configuration", "fail", "DATABASE_URL is not set", 2),
    "an open port": (
        {"DISPATCHER_HTTP_HOST": "0.0.0.0", "DISPATCHER_HTTP_TOKEN": ""},
        "http port",
        "warn",
        "other machines can reach",
        0,
    ),
    "no dsn": ({"SENTRY_DSN": "https://sentry.example/nothing"}, "sentry", "fail", "not a DSN", 1),
    "sentry away": ({"SENTRY_DSN": f"http://key@{CLOSED}/7"}, "sentry", "warn", "does not answer", 0),
    "an unknown host": ({"DATABASE_URL": "postgres://a@nowhere.invalid/a"}, "dns", "fail", "nowhere.invalid", 3),
    "a closed port": ({"DATABASE_URL": f"postgres://a@{CLOSED}/a"}, "tcp", "fail", CLOSED, 3),
    "Temporal stopped": ({"TEMPORAL_ADDRESS": CLOSED}, "temporal", "fail", CLOSED, 3),
    "a namespace that nobody may create": (
        {"TEMPORAL_NAMESPACE": "nowhere", "DISPATCHER_CREATE_NAMESPACE": "false"},
        "namespace",
        "fail",
        "nowhere does not exist",
        1,
    ),
    "nobody at work": (
        {"TEMPORAL_TASK_QUEUE": "deserted"},
        "pollers",
        "warn",
        "no worker polls deserted-",
        0,
    ),
    "Novu away": ({"NOVU_API_URL": f"http://{CLOSED}"}, "novu", "fail", "does not answer", 3),
    "no certificates": ({"SSL_CERT_FILE": "/nowhere"}, "novu", "fail", "certificates cannot be read", 1),
    "no key": ({"NOVU_SECRET_KEY": ""}, "novu key", "fail", "NOVU_SECRET_KEY is not set", 1),
    "a wrong key": ({"NOVU_SECRET_KEY": "not-the-key"}, "novu key", "fail", "API Key not found", 1),
    "no such outbox": ({"DISPATCHER_OUTBOX": "notify.nothing"}, "outbox", "fail", "does not exist", 1),
    "a table that is none": (
        {"DISPATCHER_OUTBOX": "notify.typ_notification_category"},
        "outbox",
        "fail",
        "lacks the columns",
        1,
    ),
    "no way to listen": (
        {"DISPATCHER_LISTEN_DATABASE_URL": f"postgres://a@{CLOSED}/a"},
        "notify",
        "fail",
        "DISPATCHER_LISTEN_DATABASE_URL",
        3,
    ),
}


@pytest.mark.parametrize("case", BY_SETTINGS)
async def test_wrong_settings_are_named(stack: Stack, case: str):
    settings, check, verdict, words, code = BY_SETTINGS[case]
    found = await run_doctor(stack, **settings)
    assert (found.code, found.checks[check]["verdict"]) == (code, verdict), found
    assert words in found.checks[check]["value"]
    assert found.verdicts("fail") == ([check] if verdict == "fail" else []), "and nothing else"
    if check in {"dns", "tcp"}:
        assert {"server", "outbox", "nodes", "workflow keys"} <= found.because(check)
        assert found.checks["temporal"]["verdict"] == "pass", "the others are looked at all the same"


@pytest.mark.parametrize(
    ("more", "check", "words"),
    [
        ("?sslmode=require", "tls", "server does not support SSL"),
        ("_gone", "auth", "does not exist"),
    ],
)
async def test_server_that_refuses_the_login_is_named(stack: Stack, more: str, check: str, words: str):
    found = await run_doctor(stack, DATABASE_URL=stack.url + more)
    assert (found.code, found.verdicts("fail")) == (1, [check]), found
    assert words in found.checks[check]["value"]
    assert {"server", "clock"} <= found.because(check)


TABLE = "notify.ent_notification"
INDEX = next(iter(index_statements(parse_outbox_name(TABLE))))
READ_ONLY = """
do $$
begin
  execute format('alter role dispatcher_run in database %I set default_transaction_read_only = on', current_database());
end $$
"""
BY_SQL: dict[str, tuple[str, str, str, str]] = {
    "a right revoked": (
        f"revoke update (notification_status) on {TABLE} from dispatcher_run",
        "rights",
        "fail",
        "UPDATE (notification_status)",
    ),
    "no right to prune": (
        "revoke delete on dispatcher.delivery from dispatcher_run",
        "rights",
        "warn",
        "role dispatcher_run needs DELETE on dispatcher.delivery",
    ),
    "rows hidden": (f"alter table {TABLE} enable row level security", "row security", "fail", "hides rows of"),
    "a trigger dropped": (
        f"drop trigger dispatcher_insert on {TABLE}",
        "triggers",
        "fail",
        "dispatcher_insert is missing",
    ),
    "a trigger disabled": (
        f"alter table {TABLE} disable trigger dispatcher_update",
        "triggers",
        "fail",
        "dispatcher_update is disabled",
    ),
    "an index that was not built to its end": (
        f"update pg_index set indisvalid = false where indexrelid = 'notify.{INDEX}'::regclass",
        "indexes",
        "fail",
        f"not valid: {INDEX}",
    ),
    "an index dropped": (f"drop index notify.{INDEX}", "indexes", "warn", f"missing: {INDEX}"),
    "a ledger gone": ("drop table dispatcher.node", "ledger", "fail", "lacks node"),
    "a role that only reads": (READ_ONLY, "server", "warn", "read-only by default, which dispatcher overrides"),
}


@pytest.mark.parametrize("case", BY_SQL)
async def test_database_problems_are_named_under_the_role_of_run(stack: Stack, case: str):
    statement, check, verdict, words = BY_SQL[case]
    await stack.connection.execute(statement.encode())
    found = await run_doctor(stack, DATABASE_URL=as_run_role(stack.url))
    assert (found.code, found.checks[check]["verdict"]) == (1 if verdict == "fail" else 0, verdict), found
    assert words in found.checks[check]["value"]
    assert found.verdicts("fail") == ([check] if verdict == "fail" else [])


async def test_replaced_function_is_named_to_the_owner(stack: Stack):
    await stack.rows(
        "create or replace function dispatcher.ring_v2() returns trigger language plpgsql as 'begin return null; end'"
    )
    found = await run_doctor(stack)
    assert (found.code, found.verdicts("fail")) == (1, ["definitions"])
    assert "dispatcher.ring_v2: changed" in found.checks["definitions"]["value"]


ALL_FAULTY = (
    "missing at Novu: no-such-workflow; not active at Novu: sleeps; with status ERROR at Novu: broken;"
    " without steps at Novu: hollow"
)


async def test_missing_part_of_novu_is_named(stack: Stack):
    await stack.workflow("no-such-workflow")
    await stack.novu.add_workflow("sleeps", active=False)
    await stack.workflow("sleeps")
    await stack.novu.add_workflow("broken", broken=True)
    await stack.workflow("broken")
    await stack.novu.add_workflow("hollow", steps=[])
    await stack.workflow("hollow")
    await stack.novu.configure(idempotency=False)
    found = await run_doctor(stack)
    assert (found.code, found.verdicts("fail")) == (1, ["workflow keys"])
    assert found.checks["workflow keys"]["value"] == ALL_FAULTY
    assert found.checks["idempotency"]["verdict"] == "warn"
    assert "looked up for 5m (DISPATCHER_LOOKUP_TIME)" in found.checks["idempotency"]["value"]
    await stack.novu.add_workflow("no-such-workflow")
    found = await run_doctor(stack)
    assert (found.code, found.checks["workflow keys"]["value"]) == (0, ALL_FAULTY.partition("; ")[2])
    assert {request.status for request in await stack.novu.requests() if request.method == "POST"} == {422}
    assert (await stack.novu.summary()).effects == 0


async def test_silent_servers_do_not_delay_doctor(stack: Stack):
    with (
        socket.create_server(("127.0.0.1", 0)) as database,
        socket.create_server(("127.0.0.1", 0)) as temporal,
        socket.create_server(("127.0.0.1", 0)) as novu,
    ):
        began = time.monotonic()
        found = await run_doctor(
            stack,
            DATABASE_URL=f"postgres://a@127.0.0.1:{database.getsockname()[1]}/a",
            TEMPORAL_ADDRESS=f"127.0.0.1:{temporal.getsockname()[1]}",
            NOVU_API_URL=f"http://127.0.0.1:{novu.getsockname()[1]}",
        )
        assert time.monotonic() - began < 28
    assert (found.code, found.verdicts("fail")) == (3, ["tls", "temporal", "novu"]), found
