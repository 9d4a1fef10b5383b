"""The ASGI application: the control endpoints under /_standin, Novu's API under every other path.

The API side is plain ASGI: Novu has its own 404, no 405 and no redirects, and benchmarks need a low cost per event.
"""

import asyncio
import time
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.devstack.fake_novu.api import NovuApi
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.control import Control
from dispatcher.devstack.fake_novu.wire import deliver

CONTROL_PATH = "/_standin"


def build(novu: NovuApi) -> ASGIApp:
    """Return the application of one fake Novu."""
    watches: set[asyncio.Task[None]] = set()  # the event loop itself keeps only weak references
    control = Starlette(routes=[Mount(CONTROL_PATH, routes=Control(novu).routes())])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(f"{CONTROL_PATH}/"):
            await control(scope, receive, send)
            return
        body = await _body(receive)
        if body is not None:
            # Like Novu, finish the call even if the client has closed the connection meanwhile.
            call = _call(novu, scope, body)
            if novu.faults.rules:  # only then can the client hang up first
                watch = asyncio.create_task(_note_end(novu, call, receive))
                watches.add(watch)
                watch.add_done_callback(watches.discard)
            await deliver(await novu.answer(call), call.fault, receive, send)

    return application


async def _note_end(novu: NovuApi, call: FakeCall, receive: Receive) -> None:
    """Log when the call is answered, or when the client has closed its connection before."""
    while (await receive())["type"] != "http.disconnect":
        pass
    novu.ledger.ended(call.seq, time.time())


async def _body(receive: Receive) -> bytes | None:
    """Return the complete body, or None if the client closed the connection before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _call(novu: NovuApi, scope: Scope, body: bytes) -> FakeCall:
    return FakeCall(
        method=scope["method"],
        path=scope["path"],
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        body=body,
        seq=novu.ledger.next_sequence(),
    )
