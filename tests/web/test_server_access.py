"""Access to the paths of the HTTP port, and the rate at which it answers."""

import asyncio
import socket

import httpx
import pytest

from dispatcher.models.errors import ConfigurationError
from dispatcher.web import guard, server
from dispatcher.web.server import RateLimiter, bind, on_loopback, serving
from tests.support.waits import eventually
from tests.web.raw_http import app, get, send_raw


async def test_s16_token_is_needed_except_for_bare_health_paths_and_compared_completely():
    token = "correct horse battery"
    listening = bind("127.0.0.1", 0)
    port = listening.getsockname()[1]
    async with (
        serving(listening, app(token)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        assert (await http.get("/livez")).status_code == 200
        for given in ("", "Bearer", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}", "Bearer \xff"):
            headers = [(b"authorization", given.encode("latin-1"))]
            assert (await http.get("/status", headers=headers)).status_code == 401
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert (await http.get("/status", headers={"authorization": f"{scheme} {token}"})).status_code == 200


async def test_ten_wrong_tokens_are_forgotten_after_a_minute(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "WRONG_TOKEN_SECONDS", 1.0)
    listening = bind("127.0.0.1", 0)
    async with (
        serving(listening, app("correct horse battery")),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False) as http,
    ):

        async def wrong() -> int:
            return (await http.get("/status", headers={"authorization": "Bearer wrong"})).status_code

        while await wrong() == 401:
            pass

        async def accepted_again() -> bool:
            return await wrong() == 401

        await eventually(accepted_again, "a 401 again")


async def test_s15_other_machines_see_only_health_without_a_token():
    listening = bind("0.0.0.0", 0)
    assert not on_loopback(listening)
    port = listening.getsockname()[1]
    async with serving(listening, app(private=False)):
        assert await get(port) == 200
        assert await get(port, "/status") == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:3001", 200),
        ("127.0.0.1:3001", 200),
        ("127.8.8.8", 200),
        ("[::1]", 200),
        ("[::1]:3001", 200),
        ("evil.example:3001", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("evillocalhost:3001", 403),
        ("evil.localhost", 403),
        ("203.0.113.7", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_s15_foreign_host_name_for_loopback_is_refused_without_a_token(port: int, host: str, status: int):
    head = f"host: {host}\r\nconnection: close\r\n\r\n".encode()
    assert (await send_raw(port, b"GET /status HTTP/1.1\r\n" + head)).startswith(f"HTTP/1.1 {status}".encode())
    assert (await send_raw(port, b"GET /livez HTTP/1.1\r\n" + head)).startswith(b"HTTP/1.1 200"), (
        "probes ask by any name"
    )


async def test_any_host_name_is_accepted_with_a_token():
    listening = bind("127.0.0.1", 0)
    async with serving(listening, app("correct horse battery")):
        head = b"host: example.org\r\nauthorization: Bearer correct horse battery\r\nconnection: close\r\n\r\n"
        answer = await send_raw(listening.getsockname()[1], b"GET /status HTTP/1.1\r\n" + head)
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_is_decided_by_the_bound_address(host: str):
    listening = bind(host, 0)
    assert on_loopback(listening)
    listening.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid", "203.0.113.7"])
def test_address_in_use_is_named(host: str):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError) as caught:
        bind(host, taken.getsockname()[1])
    assert "DISPATCHER_HTTP_PORT" in str(caught.value)
    assert host in str(caught.value)


async def test_rate_limiter_limits_the_rate_after_a_burst():
    limiter = RateLimiter(100, burst=10)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(10):
        await limiter.acquire()
    assert loop.time() - began < 0.1
    for _ in range(20):
        await limiter.acquire()
    assert loop.time() - began >= 0.18


async def test_s19_requests_are_rate_limited(port: int):
    began = asyncio.get_running_loop().time()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as http:
        for _ in range(server.BURST + 60):
            assert (await http.get("/livez")).status_code == 200
    assert asyncio.get_running_loop().time() - began > 50 / server.CONNECTIONS_PER_SECOND
