"""The health port of real processes over real HTTP: its answers in health and during outages."""

import os
import signal
import time
from typing import Any

import anyio
import httpx
import psycopg
import pytest
from psycopg import conninfo

from tests.e2e.health_answers import answers, metrics_of, subscribed
from tests.support.stack import Stack
from tests.support.waits import eventually

XNOVU = {"status", "uptime", "components", "enterprise_status", "temporal_status"}


OURS = {"broken", "listener", "sweep", "database", "backlog", "nodes", "novu"}


SOON = {"DISPATCHER_SWEEP_INTERVAL": "1s"}


async def send_until_notified(stack: Stack, http: httpx.AsyncClient) -> int:
    """Send notifications until one was announced by a NOTIFY and not found by a poll; return how many were sent."""
    for sent in range(1, 30):
        await stack.final(await stack.notify())
        seen = metrics_of((await http.get("/metrics")).text)
        if seen.get('dispatcher_claimed_rows_total{source="notify"}'):
            return sent
        await anyio.sleep(0.2)
    raise AssertionError((await http.get("/metrics")).text + stack.log_tails())


async def test_healthy_process_is_healthy_on_every_path(stack: Stack):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        await answers(http, "/readyz", 200, status="ready")
        for path, status in (("/livez", "ok"), ("/startupz", "started"), ("/health", "healthy")):
            assert (await http.get(path)).json()["status"] == status
        assert set((await http.get("/health")).json()) == {"status", "uptime", "timestamp", "version"}
        sent = await send_until_notified(stack, http)
        # A dispatcher writes at its next sweep that it listens.
        heard_one = {"total": 1, "active": 1, "failed": 0, "reconnecting": 0}
        await eventually(lambda: subscribed(http, heard_one), f"{heard_one} in /status")
        status = await answers(http, "/status", 200, status="healthy")
        assert status.keys() >= XNOVU | OURS
        assert status["temporal_status"] == {
            "status": "healthy",
            "orchestrationWorkflow": "RUNNING",
            "pollingLoop": "RUNNING",
        }
        assert status["listener"]["verified"]
        detailed = (await http.get("/health/detailed")).json()
        assert detailed["process"]["pid"] == process.popen.pid
        assert (await http.get("/health/subscriptions")).json()["subscription_manager"]["isHealthy"]
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        seen = metrics_of(answer.text)
        assert seen['dispatcher_settled_rows_total{status="SENT"}'] == sent
        assert seen['dispatcher_novu_triggers_total{outcome="accepted"}'] == sent
        assert sum(value for name, value in seen.items() if name.startswith("dispatcher_claimed_rows_total")) == sent
        assert seen['dispatcher_claimed_rows_total{source="notify"}'] >= 1
        assert seen["dispatcher_dispatch_latency_seconds_count"] == sent
        assert 0 < seen["dispatcher_accept_latency_seconds_sum"] < 30 * sent
        assert (
            seen["dispatcher_listener_verified"] == seen["xnovu_worker_healthy"] == seen["dispatcher_database_up"] == 1
        )
        assert str(stack.novu.api_key) not in answer.text + str(status)


async def test_unknown_path_is_refused_in_xnovus_format(stack: Stack):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        nowhere, posted = await http.get("/nowhere"), await http.post("/status")
        assert (nowhere.status_code, posted.status_code) == (404, 405)
        assert set(nowhere.json()) == set(posted.json()) == {"error"}
        assert (await http.options("/status")).status_code == 200
        for answer in (nowhere, posted, await http.get("/health")):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in answer.headers
            assert "server" not in answer.headers


async def test_f165_stopped_temporal_is_named_and_liveness_stays_200(stack: Stack, tmp_path: Any):
    from dispatcher.devstack import temporal

    with temporal.run_temporal(tmp_path / "temporal") as server:
        process = await stack.running(TEMPORAL_ADDRESS=server.address)
        async with await process.http() as http:
            await answers(http, "/readyz", 200)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                told = await answers(http, "/readyz", 503, broken=["temporal"])
                assert time.monotonic() - began < 30
                assert "temporal" in told["since"]
                assert (await http.get("/livez")).status_code == 200
                assert (await http.get("/health")).json()["status"] == "degraded"
                assert "temporal" in (await http.get("/status")).json()["broken"]
                assert metrics_of((await http.get("/metrics")).text)['dispatcher_part_broken{part="temporal"}'] == 1
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await answers(http, "/readyz", 200)
        assert process.read_log().count('"outage_began"') == process.read_log().count('"outage_over"') == 1
        assert await process.stop() == 0


async def test_f165_absent_novu_is_named_before_a_row_needs_it(stack: Stack):
    process = await stack.running()
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
        await stack.stop_novu()
        await answers(http, "/readyz", 503, broken=["novu"])
        assert (await http.get("/livez")).status_code == 200
        await stack.start_novu()
        await answers(http, "/readyz", 200)


async def test_f165_wrong_novu_key_is_named(stack: Stack):
    process = await stack.running(NOVU_SECRET_KEY="wrong")
    async with await process.http() as http:
        await stack.notify()
        await answers(http, "/readyz", 503, broken=["novu"])
        assert "401" in (await http.get("/status")).json()["broken"]["novu"]["reason"]
    await process.stop()
    await stack.running()


async def test_f165_postgres_that_refuses_logins_is_named(stack: Stack, url: str):
    process = await stack.running(**SOON)
    name = conninfo.conninfo_to_dict(url)["dbname"]
    async with await process.http() as http, await psycopg.AsyncConnection.connect(url, autocommit=True) as owner:
        await answers(http, "/readyz", 200)
        await owner.execute(f'alter database "{name}" connection limit 0'.encode())
        await owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'dispatcher_run'"
            " and datname = current_database()"
        )
        told = await answers(http, "/readyz", 503, broken=["listener", "postgres"])
        assert set(told["since"]) == {"listener", "postgres"}
        assert (await http.get("/livez")).status_code == 200
        status = (await http.get("/status")).json()
        assert status["database"]["status"] == "unhealthy"
        assert "components" in status
        await owner.execute(f'alter database "{name}" connection limit -1'.encode())
        await answers(http, "/readyz", 200)


REMOVALS = [
    (
        "revoke update on dispatcher.recipient from dispatcher_run",
        "UPDATE on dispatcher.recipient",
        ["outbox", "retraction"],
    ),
    (
        "alter table notify.ent_notification disable trigger dispatcher_insert",
        "dispatcher_insert is disabled",
        ["outbox"],
    ),
    ("drop trigger dispatcher_update on notify.ent_notification", "dispatcher_update is missing", ["outbox"]),
]


@pytest.mark.parametrize(("taken", "named", "broken"), REMOVALS)
async def test_f165_right_or_trigger_removed_by_the_owner_is_named(
    stack: Stack, taken: str, named: str, broken: list[str]
):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
        saved = await stack.value("select pg_get_triggerdef(oid) from pg_trigger where tgname = 'dispatcher_update'")
        await stack.rows(taken)
        try:
            await answers(http, "/readyz", 503, broken=broken)
            assert named in (await http.get("/status")).json()["broken"]["outbox"]["reason"]
            assert metrics_of((await http.get("/metrics")).text)['dispatcher_part_broken{part="outbox"}'] == 1
            assert (await http.get("/livez")).status_code == 200
        finally:
            await stack.rows("grant update on dispatcher.recipient to dispatcher_run")
            await stack.rows("drop trigger if exists dispatcher_update on notify.ent_notification")
            await stack.rows(saved)
            await stack.rows("alter table notify.ent_notification enable trigger dispatcher_insert")
        await answers(http, "/readyz", 200)
    assert process.read_log().count('"outage_began"') == len(broken)


async def test_f218_search_for_retractions_that_fails_makes_a_process_unready(stack: Stack):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
        await stack.rows("alter table dispatcher.recipient rename column cancel_tries to other")
        try:
            await answers(http, "/readyz", 503, broken=["retraction"])
            assert "UndefinedColumn" in (await http.get("/status")).json()["broken"]["retraction"]["reason"]
            row = await stack.notify()
            assert await stack.final(row) == ["SENT"], "rows are sent meanwhile"
        finally:
            await stack.rows("alter table dispatcher.recipient rename column other to cancel_tries")
        await answers(http, "/readyz", 200)
