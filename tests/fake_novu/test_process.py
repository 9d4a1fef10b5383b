"""The process and its request log: starting, ending, restarting, and which requests it keeps."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from dispatcher.devstack.fake_novu.ledger import EffectLog, LoggedRequest
from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.devstack.fake_novu.registry import workflow_from
from dispatcher.devstack.fake_novu.settings import BadControl, Config
from dispatcher.devstack.processes import NotStarted, free_port

EVENT = {"name": "default-email", "to": "ana", "payload": {}, "transactionId": "t-1"}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def gone(pid: int) -> None:
    with anyio.fail_after(5):
        while alive(pid):  # noqa: ASYNC110  (another process cannot set an event)
            await anyio.sleep(0.01)


async def test_process_ends_with_the_block() -> None:
    async with run_fake_novu(api_key="mine") as fake_novu:
        assert alive(fake_novu.pid)
        assert fake_novu.api_key == "mine"
    assert not alive(fake_novu.pid)
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{fake_novu.url}/v1/health-check")


async def test_restart_is_empty_on_the_same_port() -> None:
    port = free_port()
    for _ in range(2):
        async with run_fake_novu(port=port) as fake_novu, httpx.AsyncClient(trust_env=False) as client:
            assert (await fake_novu.summary()).effects == 0
            headers = {"Authorization": f"ApiKey {fake_novu.api_key}"}
            await client.post(f"{fake_novu.url}/v1/events/trigger", json=EVENT, headers=headers)
            assert (await fake_novu.summary()).effects == 1


async def test_process_ends_on_sigterm_during_a_call() -> None:
    async with run_fake_novu(latency_ms=60_000.0) as fake_novu, httpx.AsyncClient(trust_env=False) as client:
        headers = {"Authorization": f"ApiKey {fake_novu.api_key}", "Idempotency-Key": "key"}

        async def call() -> None:
            with pytest.raises(httpx.TransportError):
                await client.post(f"{fake_novu.url}/v1/events/trigger", json=EVENT, headers=headers, timeout=30)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not (await fake_novu.state())["idempotency_records"]:
                await anyio.lowlevel.checkpoint()
            os.kill(fake_novu.pid, signal.SIGTERM)
            await gone(fake_novu.pid)


async def test_process_ends_with_its_parent() -> None:
    program = textwrap.dedent(
        """
        import anyio
        from dispatcher.devstack.fake_novu.process import run_fake_novu

        async def main():
            async with run_fake_novu() as fake_novu:
                print(fake_novu.pid, flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
        """
    )
    async with await anyio.open_process([sys.executable, "-c", program], stderr=None) as parent:
        assert parent.stdout is not None
        pid = int(await parent.stdout.receive())
        assert alive(pid)
        parent.kill()
    await gone(pid)


async def test_bad_setting_is_named_at_the_start() -> None:
    with pytest.raises(NotStarted):
        async with run_fake_novu(no_such_setting=1):
            pass


async def test_port_in_use_is_named_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with run_fake_novu(port=taken.getsockname()[1]):
            pass


async def test_module_runs_from_the_command_line(tmp_path: Path) -> None:
    port, workflows = free_port(), tmp_path / "workflows.json"
    workflows.write_text('[{"key": "mine", "steps": ["sms"]}]')
    args = ["--port", str(port), "--api-key", "k", "--no-idempotency", "--workflows", str(workflows)]
    command = [sys.executable, "-m", "dispatcher.devstack.fake_novu", *args]
    async with await anyio.open_process(command, stdout=None, stderr=None) as process:
        try:
            event, headers = {"name": "mine", "to": "ana"}, {"Authorization": "ApiKey k", "Idempotency-Key": "key"}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                with anyio.fail_after(10):
                    while not await answers(client):  # noqa: ASYNC110  (another process cannot set an event)
                        await anyio.sleep(0.01)
                answer = await client.post("/v1/events/trigger", json=event, headers=headers)
        finally:
            process.terminate()
    assert answer.status_code == 201
    assert "idempotency-key" not in answer.headers


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/v1/health-check")).is_success
    except httpx.TransportError:
        return False


def test_client_helper_imports_no_server() -> None:
    program = "import sys, dispatcher.devstack.fake_novu.process; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "httpx" in modules
    assert not {"starlette", "uvicorn", "uvloop", "httptools"} & set(modules)


async def test_request_is_logged_with_all_its_fields(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    events = [EVENT, {"name": "default-sms", "to": ["ben", "cem"], "payload": {}, "tenant": "acme-2"}]
    answer = await api.post("/v1/events/trigger/bulk", json={"events": events}, headers={"Idempotency-Key": "key"})
    (logged,) = await fake_novu.requests()
    assert (logged.seq, logged.path, logged.status) == (1, "/v1/events/trigger/bulk", answer.status_code)
    assert (logged.idempotency_key, logged.replayed, logged.effects) == ("key", False, 1)
    assert (logged.transaction_ids, logged.subscribers) == (["t-1", None], ["ana", "ben", "cem"])
    assert (logged.workflow_keys, logged.tenants) == (["default-email", "default-sms"], ["acme-2"])
    assert 0 < logged.started_at <= logged.ended_at


async def test_body_is_kept_byte_for_byte(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    body = b'{ "name":"default-email",\n "to": "ana", "payload": {"n": 1.0, "s": "\\u00e9\xc3\xa9"} }'
    await api.post("/v1/events/trigger", content=body, headers={"Content-Type": "application/json"})
    (logged,) = await fake_novu.requests()
    assert await fake_novu.body(logged.seq) == body
    assert logged.body_hash == hashlib.sha256(body).hexdigest()
    assert await fake_novu.body(99) is None


async def test_requests_are_listed_in_order_of_arrival(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(latency_ms=100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: api.post("/v1/events/trigger", json=EVENT))
        while not (await fake_novu.state())["requests_arrived"]:
            await anyio.lowlevel.checkpoint()
        await api.delete("/v1/events/trigger/t-1")
    first, second = await fake_novu.requests()
    assert (first.method, second.method) == ("POST", "DELETE")
    assert first.ended_at > second.ended_at


async def test_effects_are_listed_by_pair(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    for recipient in ("ana", "ben", "ben"):
        await api.post("/v1/events/trigger", json={**EVENT, "to": recipient})
    assert [effect.accepted for effect in await fake_novu.effects(subscriber="ben", transaction_id="t-1")] == [2]
    assert [effect.subscriber for effect in await fake_novu.effects(least=2)] == ["ben"]
    assert await fake_novu.effects(transaction_id="t-2") == []


async def test_reset_drops_calls_in_progress(api: httpx.AsyncClient, fake_novu: FakeNovu) -> None:
    await fake_novu.configure(worker_delay_ms=100.0)
    await api.post("/v1/events/trigger", json=EVENT)
    await fake_novu.reset()
    await fake_novu.configure(worker_delay_ms=150.0)
    await api.post("/v1/events/trigger", json={**EVENT, "transactionId": "t-2"})
    await fake_novu.wait_idle()
    assert [(effect.transaction_id, effect.runs) for effect in await fake_novu.effects()] == [("t-2", 1)]


@pytest.mark.parametrize(
    "settings",
    [{"nonsense": 1}, {"idempotency": 1}, {"variant": "4"}, {"latency_ms": "5"}, {"worker_concurrency": True}],
)
async def test_impossible_setting_changes_nothing(fake_novu: FakeNovu, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown"):
        await fake_novu.configure(worker_paused=True, **settings)
    assert (await fake_novu.state())["config"] == {**Config().as_json(), "refused_recipients": []}


@pytest.mark.parametrize("data", [5, {}, {"key": "k", "steps": 5}, {"key": "k", "steps": ["fax"]}])
def test_impossible_workflow_is_refused(data: object) -> None:
    with pytest.raises(BadControl):
        workflow_from(data)


def test_request_log_stays_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "dispatcher.devstack.fake_novu.ledger"
    for name in ("MAX_PAIRS", "MAX_REQUESTS", "MAX_BODIES"):
        monkeypatch.setattr(f"{module}.{name}", 3)
    ledger = EffectLog()
    for number in range(5):
        ledger.accepted(("env", f"t-{number}", "ana"), "default-email", 1.0)
        ledger.record(logged_request(number), b"{}")
    assert [pair[1] for pair in ledger.pairs] == ["t-2", "t-3", "t-4"]
    assert list(ledger.bodies) == [2, 3, 4]
    assert [row["seq"] for row in ledger.requests(offset=3, limit=10)] == [3, 4]
    summary = ledger.summary()
    assert (summary["pairs_dropped"], summary["requests_dropped"], summary["effects"]) == (2, 2, 5)


def logged_request(seq: int) -> LoggedRequest:
    return LoggedRequest(seq, 1.0, 2.0, "POST", "/", None, None, ("t",), ("ana",), ("w",), (), "", 201, False, 1)  # noqa: FBT003
