"""Sends an answer; if a fault applies, late, in parts, incomplete or not at all.

These faults write directly to the connection, bypassing the HTTP server, and always close it.
"""

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Send

from dispatcher.devstack.fake_novu.answers import Answer
from dispatcher.devstack.fake_novu.faults import Fault

RESETS = ("reset_before", "reset_after")
SILENT = ("hang", "silent")
SLOW = ("slow_headers", "slow_body")
CONNECTION_FAULTS = (*RESETS, *SILENT, *SLOW, "half_answer")
LINGER_ZERO = struct.pack("ii", 1, 0)


async def deliver(answer: Answer, fault: Fault | None, receive: Receive, send: Send) -> None:
    """Send the answer, as its fault changes it."""
    if fault is None or fault.kind not in CONNECTION_FAULTS:
        await _send(answer, send)
        return
    transport: Any = getattr(send, "__self__").transport  # noqa: B009  (the server gives no access to its connection)
    if fault.kind in RESETS:
        _reset(transport)
    elif fault.kind == "half_answer":
        head, body = _raw(answer)
        transport.write(head + body[: len(body) // 2])
        transport.close()
    elif fault.kind in SLOW:
        await _send_slowly(transport, fault, *_raw(answer))
    # Wait for the end of the connection: without an answer, the server would send a 500 when we return.
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_slowly(transport: Any, fault: Fault, head: bytes, body: bytes) -> None:
    """Send one byte every `fault.seconds`, until the client closes the connection or the answer is complete."""
    if fault.kind == "slow_body":
        transport.write(head)
        head = b""
    for byte in head + body:
        if transport.is_closing():
            return
        transport.write(bytes([byte]))
        await asyncio.sleep(fault.seconds)
    transport.close()


def _reset(transport: Any) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()


def _raw(answer: Answer) -> tuple[bytes, bytes]:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", "connection: close"]
    lines += [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in _headers(answer)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), answer.body


async def _send(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer)})
    await send({"type": "http.response.body", "body": answer.body})


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.body and not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"application/json; charset=utf-8"))
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    return headers
