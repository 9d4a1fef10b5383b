"""A server that answers every request with the same bytes: what Novu, a proxy or a stranger might say on a bad day."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class OddServer:
    """Where it is, and which requests it saw: the first line of each, and its headers."""

    url: str = ""
    requests: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def answering(raw: bytes, *, hang: bool = False) -> AsyncGenerator[OddServer]:
    """Run a server that reads a request, sends `raw` and closes; with `hang` it keeps the connection open instead."""
    server_state = OddServer()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        server_state.requests.append(head)
        for line in head.lower().splitlines():
            if line.startswith("content-length:"):
                await reader.readexactly(int(line.partition(":")[2]))
        writer.write(raw)
        await writer.drain()
        if hang:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    server_state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield server_state
    finally:
        done.set()
        server.close()
        await server.wait_closed()


def reply(status: str, body: bytes = b"", *headers: str, kind: str = "application/json") -> bytes:
    """Return a whole HTTP answer."""
    head = [
        f"HTTP/1.1 {status}",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
