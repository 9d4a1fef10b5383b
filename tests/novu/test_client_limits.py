"""The client's limits: the size of an answer, and Novu's rate limits for every kind of request."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.novu.client import NovuClient
from dispatcher.novu.http_client import MAX_ANSWER_BYTES
from tests.novu.odd_server import OddServer, answering, reply

EVENT = TriggerEvent("welcome", "ana", "tx-ana", "{}", None)
PROCESSED = b'{"data": {"acknowledged": true, "status": "processed", "transactionId": "tx-ana"}}'
HEAD = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n"
FEW_CALLS = ("ratelimit-policy: 1;w=60;burst=1", "ratelimit-remaining: 0")


@asynccontextmanager
async def client_of(server: OddServer) -> AsyncGenerator[NovuClient]:
    client = NovuClient("secret", server.url)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def endless(head: str, piece: bytes) -> AsyncGenerator[tuple[OddServer, asyncio.Event]]:
    """Run a server whose answer never ends; the event is set when the client has closed the connection."""
    state, closed = OddServer(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        writer.write(head.encode())
        try:
            while True:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state, closed
    finally:
        server.close()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (HEAD + "connection: close\r\n\r\n", b" " * 65_536),
        (HEAD + "transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    ],
    ids=["until the end of the connection", "chunked"],
)
async def test_f178_endless_answer_ends_as_too_large_and_its_connection_is_closed(head: str, piece: bytes):
    async with endless(head, piece) as (server, closed), client_of(server) as client:
        [outcome] = await client.trigger([EVENT], "key-1", 15)
        await asyncio.wait_for(closed.wait(), 5)
    assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "answer_too_large")
    assert "answer too large" in outcome.detail
    assert len(server.requests) == 1


async def test_f178_gzip_bomb_is_not_unpacked():
    """256 MB of zeros, packed to 256 KB."""
    bomb = gzip.compress(bytes(256 * 1024 * 1024), compresslevel=9)
    tracemalloc.start()
    try:
        async with (
            answering(reply("201 Created", bomb, "content-encoding: gzip")) as server,
            client_of(server) as client,
        ):
            tracemalloc.reset_peak()
            [outcome] = await client.trigger([EVENT], "key-1", 15)
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.code == "answer_too_large"
    assert peak < len(bomb) + 4 * MAX_ANSWER_BYTES


@pytest.mark.parametrize("encoding", [[], ["content-encoding: gzip"]])
async def test_f178_answer_of_the_allowed_size_is_read(encoding: list[str]):
    body = PROCESSED + b" " * (MAX_ANSWER_BYTES - len(PROCESSED))
    raw = reply("201 Created", gzip.compress(body) if encoding else body, *encoding)
    async with answering(raw) as server, client_of(server) as client:
        [outcome] = await client.trigger([EVENT], "key-1", 15)
    assert outcome.answer_class is AnswerClass.ACCEPTED


async def test_f178_look_up_with_a_huge_answer_is_unknown():
    async with endless(HEAD + "connection: close\r\n\r\n", b" " * 65_536) as (server, _), client_of(server) as client:
        outcome = await client.look_up(EVENT, 15)
    assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "look_up_failed")


async def test_f177_absurd_headers_do_not_change_an_accepted_call():
    raw = reply("201 Created", PROCESSED, f"ratelimit-policy: {'9' * 5000};w=1", f"ratelimit-remaining: {'9' * 5000}")
    async with answering(raw) as server, client_of(server) as client:
        for _ in range(2):
            [outcome] = await client.trigger([EVENT], "key-1", 5)
            assert outcome.answer_class is AnswerClass.ACCEPTED


async def test_f177_look_ups_keep_to_the_limit_that_their_answers_name():
    async with answering(reply("200 OK", b'{"data": []}', *FEW_CALLS)) as server, client_of(server) as client:
        assert (await client.look_up(EVENT, 5)).code == "not_found"
        second = await client.look_up(EVENT, 0.05)
        assert (second.answer_class, second.code) == (AnswerClass.UNKNOWN, "look_up_failed")
        assert "rate limit" in second.detail
        assert client.rate_limiter.burst is None, "triggers have a limit of their own"
    assert len(server.requests) == 1


async def test_f177_cancels_pay_from_the_limit_of_triggers():
    async with answering(reply("200 OK", b'{"data": true}', *FEW_CALLS)) as server, client_of(server) as client:
        await client.cancel("tx-ana", 5)
        assert client.rate_limiter.burst == 1
        seen = len(server.requests)
        second = await client.cancel("tx-ana", 0.05)
        assert (second.answer_class, second.code) == (AnswerClass.RETRY, "cancel_failed")
    assert len(server.requests) == seen


async def test_f177_cancel_without_headers_leaves_the_limit_of_triggers():
    async with answering(reply("200 OK", b'{"data": true}')) as server, client_of(server) as client:
        client.rate_limiter.update_from(201, {"ratelimit-policy": "60;w=1;burst=66", "ratelimit-remaining": "50"})
        await client.cancel("tx-ana", 5)
        assert client.rate_limiter.burst == 66
