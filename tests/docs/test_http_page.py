"""Every command of docs/http.md is run against a real `dispatcher run`, and the page has every path that is served."""

import argparse
import json
import re
import shlex
from typing import Any

import anyio
import httpx

from dispatcher.install import render_grants
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web.api import TriggerApi
from dispatcher.web.backlog_metrics import BacklogMetrics
from dispatcher.web.health import Health
from tests.support.repository import text
from tests.support.stack import RUN_ROLE, Stack

DOCS = text("docs/http.md")
TOKEN = "0123456789abcdef0123456789abcdef"
SAME = ("status", "success", "async", "message", "isRunning", "totalCount", "successCount", "error")
"""Values that are always what the page says; of the others only the keys are."""


def examples() -> list[tuple[str, str]]:
    """Return the page's commands, each with the answer it shows."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", DOCS, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            else:
                found[-1] = (found[-1][0], line)
    return found


def placed(command: str, real: dict[str, str]) -> str:
    """Return the command with what is real here for what the page calls it."""
    for name, value in real.items():
        command = command.replace(name, value)
    return command


def ask(command: str) -> str:
    """Do what curl would do at this command; it is not on every machine."""
    curl = argparse.ArgumentParser(exit_on_error=False)
    curl.add_argument("-s", action="store_true")
    curl.add_argument("-X", dest="method")
    curl.add_argument("-H", dest="headers", action="append", default=[])
    curl.add_argument("-d", dest="body")
    curl.add_argument("url")
    asked = curl.parse_args(shlex.split(command.replace("$DISPATCHER_HTTP_TOKEN", TOKEN))[1:])
    headers = dict(header.split(": ", 1) for header in asked.headers)
    if asked.body is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
    method = asked.method or ("GET" if asked.body is None else "POST")
    return httpx.request(method, asked.url, headers=headers, content=asked.body, timeout=60, trust_env=False).text


async def test_every_command_of_the_http_page_works(stack: Stack):
    await stack.connection.execute(render_grants("notify.ent_notification", RUN_ROLE, operator=True).encode())
    process = await stack.running(
        DISPATCHER_HTTP_API="true", DISPATCHER_HTTP_TOKEN=TOKEN, DISPATCHER_SWEEP_INTERVAL="1s"
    )
    async with await process.http() as http:
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110  (the test's own limit ends it)
            await anyio.sleep(0.1)
        port = f"127.0.0.1:{http.base_url.port}"
        real = {"127.0.0.1:3001": port, "4711": str(await stack.notify()), "4712": str(await stack.notify())}
        for command, shown in examples():
            assert shlex.split(command)[0] == "curl"
            answer = await anyio.to_thread.run_sync(ask, placed(command, real))
            if command.endswith("/metrics"):
                assert "dispatcher_listener_connected 1.0" in answer
            else:
                told = json.loads(answer)
                assert "error" not in told or told["error"] is None, answer
                if shown:
                    compare(json.loads(shown), told)


def compare(shown: dict[str, Any], told: dict[str, Any]) -> None:
    """Check that an answer has the keys that the page shows, and the values that are always the same."""
    assert list(shown) == list(told)
    for key, value in shown.items():
        if isinstance(value, dict) and value:
            assert list(value) == list(told[key])  # pyright: ignore[reportUnknownArgumentType]
        if key in SAME and shown.get("message") != "Notification queued":
            assert told[key] == value, (key, told)


def test_http_page_has_exactly_the_servers_paths():
    health = Health(ProcessHealth(), BacklogMetrics(), ())
    served = {route.path for route in (*health.routes, *TriggerApi(ProcessHealth(), ()).routes)}
    table = set(re.findall(r"^\| `(?:GET|POST) ([^`?]+)", DOCS, re.MULTILINE))
    names = {path.replace("{workflow}", "{workflowId}").replace("{notification}", "{id}") for path in served}
    assert table == names
