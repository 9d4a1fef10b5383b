"""The port over raw sockets: odd and hostile clients, and proper ones that are served all the same."""

import asyncio
import gc
import random
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web import server
from dispatcher.web.api import TriggerApi
from dispatcher.web.server import MAX_CONNECTIONS, BoundedConnection, bind, serving
from dispatcher.web.server_app import guarded
from tests.web.raw_http import app, get, send_raw

REQUEST = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def test_f162_probe_is_answered_beside_500_slow_clients(port: int):
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
    more = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(440)]
    await asyncio.sleep(0.1)
    for _, writer in crowd:
        writer.write(b"GET /livez HTTP/1.1\r\nhost: ")
    assert await get(port) == 200
    others = await asyncio.gather(*more)
    assert await get(port) == 200
    # Counted on our side: a connection in the kernel's queue looks open to its client.
    inside = [
        each for each in gc.get_objects() if isinstance(each, BoundedConnection) and not each.transport.is_closing()
    ]
    assert len(inside) <= MAX_CONNECTIONS
    for _, writer in [*crowd, *others]:
        writer.close()


async def test_client_still_sending_a_refused_body_gets_the_status(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70000\r\n\r\n")
    for _ in range(7):
        await asyncio.sleep(0.02)
        writer.write(b"x" * 10_000)
    async with asyncio.timeout(20):
        assert b"413" in await reader.readline()
        await reader.read()
    writer.close()


async def test_connection_with_a_running_request_is_not_closed(port: int):
    busy = asyncio.create_task(send_raw(port, b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    await asyncio.sleep(0.2)
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 10)]
    assert await get(port) == 200
    assert not busy.done()
    busy.cancel()
    for _, writer in crowd:
        writer.close()


async def test_request_head_has_a_deadline(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(20):
        for byte in REQUEST:  # a byte now and then does not keep a connection open
            if ended.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
    assert ended.done()
    assert isinstance(ended.exception(), ConnectionResetError) or ended.result() == b""
    writer.close()


async def test_response_has_a_deadline(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "RESPONSE_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 3600)
    assert await send_raw(port, b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n") == b""


async def test_response_may_take_longer_than_the_head_deadline(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 0.3)
    assert (await send_raw(port, b"GET /later HTTP/1.1\r\nhost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_idle_connection_is_closed(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 0.3)
    assert (await send_raw(port, REQUEST)).startswith(b"HTTP/1.1 200")  # returns only because the port hung up


async def test_pipelined_requests_are_answered_in_order(port: int):
    data = REQUEST * 5 + REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert (await send_raw(port, data)).count(b"HTTP/1.1 200") == 6


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 2000 + b"\r\n", b"431"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 300_000, b"400"),
        (b"POST /status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 65537\r\n\r\n", b"413"),
        (b"POST /status HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n", b"411"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: nonsense\r\n\r\n", b"400"),
    ],
    ids=["one long header", "many headers", "a header without end", "a large body", "chunks", "TLS", "length"],
)
async def test_f162_too_large_or_malformed_request_is_refused(port: int, data: bytes, status: bytes):
    answer = await send_raw(port, data)
    # Bytes that the port had not read when it closed can overtake the answer.
    assert answer.startswith((b"HTTP/1.1 " + status, b"HTTP/1.1 400")) or (answer == b"" and len(data) > 10_000)
    assert await get(port) == 200


async def test_f162_random_bytes_do_not_affect_the_port(port: int, caplog: pytest.LogCaptureFixture):
    seed = random.randrange(2**32)
    noise = random.Random(seed)
    for _ in range(60):
        data = bytearray(REQUEST * 2)
        for _ in range(noise.randrange(1, 8)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data[: noise.randrange(len(data))])
        writer.write_eof()
        try:
            async with asyncio.timeout(10):
                await reader.read(2000)
        except OSError:
            pass
        writer.close()
    assert await get(port) == 200, seed
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")], seed


def test_running_request_is_answered_during_shutdown():
    listening = bind("127.0.0.1", 0)
    address = listening.getsockname()

    async def life(others: ThreadPoolExecutor) -> Future[httpx.Response]:
        begun = asyncio.Event()

        async def answer(_: Request) -> Response:
            begun.set()
            await asyncio.sleep(0.5)
            return PlainTextResponse("here")

        async with serving(listening, Starlette(routes=[Route("/", answer)])):
            asked = others.submit(httpx.get, f"http://127.0.0.1:{address[1]}", timeout=20, trust_env=False)
            await begun.wait()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        return asked

    with ThreadPoolExecutor() as others:
        assert asyncio.run(life(others)).result().text == "here", "although the loop has ended"


async def test_shutdown_waits_only_briefly_for_clients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "SHUTDOWN_SECONDS", 0.2)
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 3600)
    listening = bind("127.0.0.1", 0)
    async with serving(listening, app()):
        idle, writer = await asyncio.open_connection(*listening.getsockname())
        slow = b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n"
        asked = asyncio.create_task(send_raw(listening.getsockname()[1], slow))
        await asyncio.sleep(0.3)
        began = asyncio.get_running_loop().time()
    assert 0.2 <= asyncio.get_running_loop().time() - began < 2
    assert await idle.read() == b"", "a connection without a request is closed"
    writer.close()
    asked.cancel()


async def test_client_that_leaves_during_its_body_causes_no_error(caplog: pytest.LogCaptureFixture):
    listening = bind("127.0.0.1", 0)
    token = "correct horse battery"
    async with serving(listening, guarded(TriggerApi(ProcessHealth(), ()).routes, SecretStr(token), private=True)):
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.getsockname()[1])
        head = f"POST /api/trigger-async HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        writer.write(head.encode() + b"expect: 100-continue\r\ncontent-length: 100\r\n\r\n")
        assert b"100 Continue" in await reader.readline(), "the body is waited for"
        writer.write(b'{"notificationId"')
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.3)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
