"""Requests over raw sockets to a server of the test's own."""

import asyncio

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dispatcher.web.guard import Guard


async def page(_: Request) -> Response:
    return PlainTextResponse("here")


async def slow(_: Request) -> Response:
    await asyncio.sleep(3600)
    return PlainTextResponse("late")


async def later(_: Request) -> Response:
    await asyncio.sleep(1)
    return PlainTextResponse("here")


def app(token: str | None = None, *, private: bool = True) -> Guard:
    routes = [
        Route("/livez", page),
        Route("/status", page, methods=["GET", "POST"]),
        Route("/slow", slow),
        Route("/later", later),
    ]
    return Guard(Starlette(routes=routes), SecretStr(token) if token else None, private=private)


async def send_raw(port: int, data: bytes) -> bytes:
    """Send bytes; return everything that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def get(port: int, path: str = "/livez") -> int:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as http:
        return (await http.get(path)).status_code
