"""`dispatcher run` with a Sentry that answers, hangs or is stopped: each event is reported once, and nothing waits."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dispatcher import __version__
from dispatcher.devstack import temporal
from dispatcher.devstack.processes import free_port
from tests.support import kent_server
from tests.support.bad_rows import OUTCOMES_FAIL, OUTCOMES_FAIL_NO_MORE
from tests.support.kent_server import Kent, counted
from tests.support.stack import RUN_ROLE, Process, Stack
from tests.support.waits import eventually

SOON = {"DISPATCHER_SWEEP_INTERVAL": "500ms"}
PAYLOAD, PASSWORD = "marker-of-the-payload", "marker-of-the-password"


@pytest.fixture
def kent(tmp_path: Path) -> Iterator[Kent]:
    with kent_server.running(tmp_path) as kent:
        yield kent


async def wait_for_alerts(kent: Kent, kind: str, times: int = 1, within: float = 30) -> None:
    """Wait for alerts of a kind."""

    async def there() -> bool:
        return len(kent.events_of(kind)) >= times

    await eventually(there, f"{times} {kind} in Sentry", within)


async def logged(process: Process, word: str) -> None:
    """Wait for a word in the log."""

    async def there() -> bool:
        return word in process.read_log()

    await eventually(there, f"{word}; log:\n{process.read_log()[-2000:]}")


async def tried_again(process: Process) -> None:
    """Wait until the outage has another reason than at first: it was reported again, but made no second alert."""
    async with await process.http() as http:

        async def so() -> bool:
            outages = (await http.get("/status")).json()["broken"]
            return "does not answer" in outages.get("temporal", {}).get("reason", "")

        await eventually(so, "another try")


async def test_temporal_outage_is_one_alert_and_its_end_another(stack: Stack, kent: Kent, tmp_path: Path):
    with temporal.run_temporal(tmp_path / "temporal") as server:
        process = await stack.running(TEMPORAL_ADDRESS=server.address, SENTRY_DSN=kent.dsn, **SOON)
        await stack.final(await stack.notify())
        os.kill(server.pid, signal.SIGSTOP)
        try:
            rows = [await stack.notify() for _ in range(3)]
            await wait_for_alerts(kent, "outage_began")
            await tried_again(process)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await stack.final(*rows) == ["SENT"] * 3
        await wait_for_alerts(kent, "outage_over")
        assert await process.stop() == 0
    assert kent.kinds == ["outage_began", "outage_over"]
    [began], [over] = kent.events_of("outage_began"), kent.events_of("outage_over")
    assert began["message"].startswith("temporal has failed: a workflow could not be started")
    assert over["contexts"]["dispatcher"]["seconds"] > 1
    assert began["tags"]["node"] == over["tags"]["node"]
    assert f"-{process.popen.pid}-" in began["tags"]["node"]


async def test_wrong_novu_key_is_one_alert_for_many_rows(stack: Stack, kent: Kent):
    process = await stack.running(NOVU_SECRET_KEY="marker-of-a-key", SENTRY_DSN=kent.dsn, **SOON)
    await stack.burst(30)
    await wait_for_alerts(kent, "outage_began")
    await logged(process, "novu_gate_shut")
    await process.stop()
    [alert] = kent.items("event")
    assert (alert["tags"]["part"], alert["message"]) == ("novu", "novu has failed: HTTP 401")
    assert "marker-of-a-key" not in kent.received
    await stack.running()


async def test_dead_letters_are_reported_once_each(stack: Stack, kent: Kent):
    process = await stack.running(SENTRY_DSN=kent.dsn, DISPATCHER_LOG_LEVEL="error", **SOON)
    alone = await stack.notify(recipients=[])
    assert await stack.final(alone) == ["FAILED"]
    await wait_for_alerts(kent, "dead_letter")
    [alert] = kent.events_of("dead_letter")
    assert alert["contexts"]["dispatcher"]["notification_id"] == alone
    assert alert["message"] == "dead letter: recipients are empty"
    people = [uuid4() for _ in range(150)]
    await stack.novu.add_fault("status", status=400, message=f"title must not be {PAYLOAD}")
    await stack.rows(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)"
        " select 'dead ' || gen_random_uuid(), 'PUBLISH', %s, '{}', array[person] from unnest(%s::uuid[]) person",
        await stack.workflow(),
        people,
    )

    async def all_dead() -> bool:
        return (await stack.counts()).get("FAILED") == 1 + len(people)

    await eventually(all_dead, f"dead letters; {stack.log_tails()}")
    assert await process.stop() == 0
    alike = [event for event in kent.events_of("dead_letter") if event["tags"]["cause"] == "http_400"]
    assert len(alike) <= 10
    assert counted(alike) == len(people)
    assert kent.kinds == ["dead_letter"] * (1 + len(alike))


async def test_s09_sentry_received_no_marker(stack: Stack, kent: Kent):
    url = stack.url.replace("//postgres@", f"//{RUN_ROLE}:{PASSWORD}@")
    process = await stack.running(DATABASE_URL=url, SENTRY_DSN=kent.dsn, DISPATCHER_LOG_LEVEL="debug", **SOON)
    person = str(uuid4())
    await stack.novu.add_fault("status", status=400, message=f"title must not be {PAYLOAD}", recipient=person, times=1)
    values = {"payload": f'{{"title": "{PAYLOAD}"}}', "recipients": [person]}
    assert await stack.final(await stack.notify(**values)) == ["FAILED"]
    await stack.rows(OUTCOMES_FAIL)
    row = await stack.notify(**values | {"payload": f'["{PAYLOAD}"]'})
    await wait_for_alerts(kent, "activity_failed")
    await stack.rows(OUTCOMES_FAIL_NO_MORE)
    assert await stack.final(row) == ["FAILED"]
    await stack.novu.add_fault(
        "status", status=403, message=f"no {PAYLOAD} for {stack.novu.api_key}", recipient=person, times=1
    )
    await stack.novu.add_fault("status", path="/v1/environments/me", status=403, times=1)  # the probe confirms it
    row = await stack.notify(**values)
    await wait_for_alerts(kent, "outage_began")
    assert await stack.final(row) == ["SENT"]
    assert await process.stop() == 0
    assert set(kent.kinds) >= {"dead_letter", "activity_failed", "outage_began"}
    [bug, *_] = kent.events_of("activity_failed")
    assert bug["fingerprint"] == ["activity_failed", "RaiseException P0001", "StatementRunner._execute_once"]
    markers = [PAYLOAD, PASSWORD, stack.novu.api_key, person]
    assert [marker for marker in markers if marker in kent.received] == []
    assert PAYLOAD in str(await stack.rows("select error_details from notify.ent_notification")), "Novu did repeat it"


async def test_one_process_checks_in_and_another_takes_over(stack: Stack, kent: Kent):
    await stack.rows(
        "insert into dispatcher.node (id, role, host, version, mode, seen_at)"
        " values ('', 'all', 'elsewhere', '1', 'EVENT', clock_timestamp() + interval '1 hour')"
    )
    two = [await stack.running(SENTRY_DSN=kent.dsn, SENTRY_ENVIRONMENT="test", **SOON) for _ in range(2)]
    await swept(stack, times=3)
    assert kent.items("check_in") == [], "the one elsewhere is the first"
    await stack.rows("delete from dispatcher.node where id = ''")
    await checked_in(kent, 1)
    await swept(stack, times=3)
    [check_in] = kent.items("check_in")
    assert (check_in["monitor_slug"], check_in["status"]) == ("dispatcher-sweep", "ok")
    assert (check_in["environment"], check_in["release"]) == ("test", f"dispatcher@{__version__}")
    first = await stack.value("select min(id) from dispatcher.node")
    [speaker] = [process for process in two if f"-{process.popen.pid}-" in first]
    assert await speaker.stop() == 0
    await checked_in(kent, 2)


async def swept(stack: Stack, times: int) -> None:
    """Wait until every process has swept so often."""
    for _ in range(times):
        before = await stack.value("select max(last_sweep_at) from dispatcher.node")

        async def all_again() -> bool:
            late = "select count(*) from dispatcher.node where id <> '' and last_sweep_at <= %s"
            return not await stack.value(late, before)  # noqa: B023  (waited for at once)

        await eventually(all_again, "another sweep")


async def checked_in(kent: Kent, times: int) -> None:
    """Wait for so many check-ins."""

    async def there() -> bool:
        return len(kent.items("check_in")) == times

    await eventually(there, f"{times} check-ins")


async def test_start_failure_is_reported(stack: Stack, kent: Kent):
    process = stack.start(TEMPORAL_ADDRESS="127.0.0.1:1", SENTRY_DSN=kent.dsn)
    assert process.popen.wait(60) == 3
    [alert] = kent.items("event")
    assert alert["level"] == "fatal"
    assert alert["exception"]["values"][-1]["value"].startswith("TEMPORAL_ADDRESS: cannot connect to a Temporal server")


async def test_f160_hanging_sentry_delays_neither_rows_nor_exit(stack: Stack):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"http://public@127.0.0.1:{silent.getsockname()[1]}/1"
        await unaffected(stack, dsn)
        silent.settimeout(5)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"POST", "it was asked, and never answered"


@pytest.mark.parametrize("dsn", ["http://public@127.0.0.1:{port}/1", "nonsense"])
async def test_f160_missing_sentry_affects_nothing(stack: Stack, dsn: str):
    process = await unaffected(stack, dsn.format(port=free_port()))
    assert ("sentry_dsn_not_understood" in process.read_log()) == (dsn == "nonsense")
    assert "urllib3" not in process.read_log()


async def unaffected(stack: Stack, dsn: str) -> Process:
    """Let a process with many alerts deliver and stop as fast as without alerts."""
    process = await stack.running(SENTRY_DSN=dsn, **SOON)
    dead = [await stack.notify(recipients=[]) for _ in range(5)]
    began = time.monotonic()
    sent = [await stack.notify() for _ in range(10)]
    assert sorted(await stack.final(*sent, *dead)) == ["FAILED"] * 5 + ["SENT"] * 10
    assert time.monotonic() - began < 15
    began = time.monotonic()
    assert await process.stop() == 0
    assert time.monotonic() - began < 15
    return process
