"""The health port of real processes over real HTTP: what it says when all is well, and when something is not."""

import asyncio
import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import psycopg
import pytest
from psycopg import conninfo

from dispatcher.config.loading import ALL_INTERFACES
from dispatcher.devstack.processes import free_port
from tests.support.commands import run_dispatcher
from tests.support.stack import WEB, Process, Stack
from tests.support.waits import eventually

XNOVU = {"status", "uptime", "components", "enterprise_status", "temporal_status"}
OURS = {"broken", "listener", "sweep", "database", "backlog", "nodes", "novu"}
SOON = {"DISPATCHER_SWEEP_INTERVAL": "1s"}
TOKEN = "0123456789abcdef0123"


async def answers(http: httpx.AsyncClient, path: str, code: int, *, within: float = 30, **holds: Any) -> Any:
    """Wait until `path` answers so, with these values; return the answer."""
    last: list[Any] = []

    async def so() -> Any:
        answer = await http.get(path)
        last[:] = [answer.status_code, answer.text[:2000]]
        told = answer.json()
        return told if answer.status_code == code and holds.items() <= told.items() else None

    return await eventually(so, f"{path} {code} {holds}, but {last}", within)


def metrics_of(text: str) -> dict[str, float]:
    """Return the samples of an exposition."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def subscribed(http: httpx.AsyncClient, so: dict[str, int]) -> bool:
    """Return whether /status shows these subscriptions."""
    return (await http.get("/status")).json()["components"]["subscriptions"] == so


async def send_until_notified(stack: Stack, http: httpx.AsyncClient) -> int:
    """Send notifications until one was rung for and not found by a poll; return how many."""
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
        # A dispatcher writes at its next sweep that it hears.
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
    ("revoke update on dispatcher.recipient from dispatcher_run", "UPDATE on dispatcher.recipient"),
    ("alter table notify.ent_notification disable trigger dispatcher_insert", "dispatcher_insert is disabled"),
    ("drop trigger dispatcher_update on notify.ent_notification", "dispatcher_update is missing"),
]


@pytest.mark.parametrize(("taken", "named"), REMOVALS)
async def test_f165_right_or_trigger_removed_by_the_owner_is_named(stack: Stack, taken: str, named: str):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
        saved = await stack.value("select pg_get_triggerdef(oid) from pg_trigger where tgname = 'dispatcher_update'")
        await stack.rows(taken)
        try:
            await answers(http, "/readyz", 503, broken=["outbox"])
            assert named in (await http.get("/status")).json()["broken"]["outbox"]["reason"]
            assert metrics_of((await http.get("/metrics")).text)['dispatcher_part_broken{part="outbox"}'] == 1
            assert (await http.get("/livez")).status_code == 200
        finally:
            await stack.rows("grant update on dispatcher.recipient to dispatcher_run")
            await stack.rows("drop trigger if exists dispatcher_update on notify.ent_notification")
            await stack.rows(saved)
            await stack.rows("alter table notify.ent_notification enable trigger dispatcher_insert")
        await answers(http, "/readyz", 200)
    assert process.read_log().count('"outage_began"') == 1


@pytest.mark.parametrize("program", ["run", "web"])
async def test_metrics_and_status_cost_one_query_a_second(stack: Stack, stack_folder: Path, program: str):
    database = conninfo.conninfo_to_dict(stack.url)["dbname"]
    # Of sessions that begin from now on; the server belongs to this test alone.
    await stack.rows(f'alter database "{database}" set log_min_duration_statement = 0')
    process = stack.start((*WEB[:-1], program), DISPATCHER_HTTP_TOKEN=TOKEN)
    # `web` asks nothing else; of `run` the numbers alone count.
    asked = rb" (?:statement|execute [^:]*): " + (b"-- The figures of the outbox" if program == "run" else b"")
    log = stack_folder / "postgres" / "postgres.log"
    async with await process.http(headers={"authorization": f"Bearer {TOKEN}"}) as http:
        await answers(http, "/readyz", 200)
        before, began, answered = log.stat().st_size, time.monotonic(), 0
        while time.monotonic() - began < 4:
            told = await asyncio.gather(*(http.get(path) for path in ("/status", "/metrics") * 5))
            assert {answer.status_code for answer in told} == {200}
            answered += len(told)
        seconds = time.monotonic() - began
        questions = len(re.findall(asked, log.read_bytes()[before:]))
    assert answered >= 40
    assert 1 <= questions <= seconds + 1, f"{questions} in {seconds:.1f} s for {answered} answers"


async def test_token_is_needed_except_for_bare_health_paths(stack: Stack):
    process = await stack.running(DISPATCHER_HTTP_TOKEN=TOKEN)
    async with await process.http() as http:
        for path in ("/health", "/livez", "/readyz", "/startupz"):
            assert (await http.get(path)).status_code in (200, 503)
        for path in ("/status", "/metrics", "/health/detailed", "/health/subscriptions", "/nowhere"):
            closed = await http.get(path)
            assert (closed.status_code, closed.headers["www-authenticate"]) == (401, "Bearer")
            assert closed.json() == {"error": "a bearer token is needed"}
        right = {"authorization": f"Bearer {TOKEN}"}
        assert (await http.get("/status", headers=right)).status_code == 200
        wrong = [(await http.get("/status", headers={"authorization": f"Bearer {n}"})).status_code for n in range(12)]
        assert wrong == [401] * 10 + [429] * 2
        assert (await http.get("/status", headers=right)).status_code == 200
    assert TOKEN not in process.read_log()


async def test_s15_run_beyond_loopback_shows_only_bare_health_and_web_refuses(stack: Stack):
    process = await stack.running(DISPATCHER_HTTP_HOST="0.0.0.0")
    async with await process.http() as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/metrics")).status_code == 403
    web = stack.start(WEB, DISPATCHER_HTTP_HOST="0.0.0.0")
    assert web.popen.wait(30) == 2
    assert "DISPATCHER_HTTP_TOKEN" in web.read_log()


async def test_s15_port_of_a_platform_is_open_to_its_router_and_web_needs_a_token(stack: Stack):
    platform = {"DISPATCHER_HTTP_PORT": "", "PORT": str(free_port())}
    refused = stack.start(WEB, **platform)
    assert refused.popen.wait(30) == 2
    assert "DISPATCHER_HTTP_TOKEN" in refused.read_log()
    web = stack.start(WEB, **platform, DISPATCHER_HTTP_TOKEN=TOKEN)
    async with await web.http() as http:
        assert f'"host": "{ALL_INTERFACES}"' in web.read_log()
        assert str(http.base_url.port) == platform["PORT"]
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/status")).status_code == 401
        assert await web.stop(10) == 0


@pytest.mark.parametrize("program", ["run", "web"])
async def test_f162_port_in_use_is_one_line_and_exit_2(stack: Stack, program: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = stack.start((*WEB[:-1], program), DISPATCHER_HTTP_PORT=port)
        assert process.popen.wait(30) == 2
    lines = [line for line in process.read_log().splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert lines[0].startswith("dispatcher: DISPATCHER_HTTP_PORT")


async def test_web_shows_the_dispatchers_without_contacting_them(stack: Stack):
    running = await stack.running(**SOON)
    await stack.final(await stack.notify())
    web: Process = stack.start(WEB, TEMPORAL_ADDRESS="127.0.0.1:1", NOVU_API_URL="", NOVU_SECRET_KEY="")
    async with await web.http() as http:
        await answers(http, "/readyz", 200)
        heard_one = {"total": 1, "active": 1, "failed": 0, "reconnecting": 0}
        await eventually(lambda: subscribed(http, heard_one), f"{heard_one} in /status")
        status = await answers(http, "/status", 200, status="healthy")
        assert status["nodes"][0]["id"].split("-")[-2] == str(running.popen.pid)

        async def counted() -> bool:  # not with the first question
            return (await http.get("/status")).json()["backlog"]["rows"] == {"SENT": 1}

        await eventually(counted, "a count of every row")
        seen = metrics_of((await http.get("/metrics")).text)
        assert seen['dispatcher_nodes{mode="EVENT"}'] == seen['dispatcher_outbox_rows{status="SENT"}'] == 1
        assert "dispatcher_listener_verified" not in seen  # that is `run`'s to say
        assert await web.stop(10) == 0


async def test_web_waits_for_an_absent_database(stack: Stack):
    web = stack.start(WEB, DATABASE_URL="postgresql://postgres@127.0.0.1:1/none")
    async with await web.http() as http:
        told = await answers(http, "/readyz", 503, broken=["postgres"])
        assert told["status"] == "not ready"
        assert (await http.get("/livez")).status_code == 200
        status = (await http.get("/status")).json()
        assert (status["status"], status["database"]["status"]) == ("degraded", "unhealthy")
        assert web.popen.poll() is None
        assert await web.stop(10) == 0


async def test_http_port_listens_before_any_server_answers(stack: Stack):
    # A server that takes the connection and says nothing: connecting hangs, and the port answers all the same.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = stack.start(DATABASE_URL=f"postgresql://postgres@{address}/none?sslmode=disable")
        async with await process.http() as http:
            assert (await http.get("/livez")).status_code == 200
            told = (await http.get("/startupz")).json()
            assert "postgres" in told["waiting_for"]
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/status")).json()["status"] == "degraded"
        process.kill()


async def test_healthcheck_asks_the_port_of_this_machine(stack: Stack):
    process = await stack.running(**SOON)
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
        port = str(http.base_url.port)

        def asked(*options: str, **settings: str) -> tuple[int, str, str]:
            done = run_dispatcher("healthcheck", *options, cwd=stack.folder, environment=settings)
            return done.returncode, done.stdout, done.stderr

        assert asked(PORT=port) == (0, "", "")  # needs no other setting
        assert asked("--port", port, DISPATCHER_HTTP_HOST="0.0.0.0")[0] == 0
        code, told, _ = asked("--ready", "--json", PORT=port)
        assert (code, json.loads(told)) == (0, {"status": "ready"})
        assert asked(PORT="0")[0] == asked(PORT="none")[0] == 2
        await stack.stop_novu()
        await answers(http, "/readyz", 503)
        code, _, words = asked("--ready", PORT=port)
        assert (code, "novu" in words, asked(PORT=port)[0]) == (1, True, 0)
        await stack.start_novu()
        await process.stop()
        code, _, words = asked(PORT=port)
        assert (code, words.count("\n")) == (3, 1)


async def test_temporal_metrics_have_their_own_port(stack: Stack):
    address = f"127.0.0.1:{free_port()}"
    await stack.running(DISPATCHER_TEMPORAL_METRICS=address)
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{address}/metrics")
    assert "temporal_request_total{" in answer.text
    assert "temporal_request_latency_seconds_bucket{" in answer.text
    second = stack.start(DISPATCHER_TEMPORAL_METRICS=address)
    assert second.popen.wait(30) == 2
    assert "dispatcher: DISPATCHER_TEMPORAL_METRICS" in second.read_log()
