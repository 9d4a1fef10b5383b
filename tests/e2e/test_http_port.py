"""The HTTP port of real processes: who may read what, metrics, and a port that is in use."""

import asyncio
import json
import re
import socket
import time
from pathlib import Path

import httpx
import pytest
from psycopg import conninfo

from dispatcher.config.loading import ALL_INTERFACES
from dispatcher.devstack.processes import free_port
from tests.e2e.health_answers import answers
from tests.support.commands import run_dispatcher
from tests.support.stack import WEB, Stack

SOON = {"DISPATCHER_SWEEP_INTERVAL": "1s"}


TOKEN = "0123456789abcdef0123"


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
