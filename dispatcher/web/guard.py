"""What stands before every route: who may ask for what, how much they may send, and the headers of every answer."""

import hmac
import time
from collections import deque
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.web.server import MOST_HEADER_BYTES, Turns

OPEN_TO_ALL = frozenset({"/health", "/livez", "/readyz", "/startupz"})
"""The bare health paths: they say how we are and nothing else."""
MOST_BODY_BYTES = 65_536
MOST_UNREAD_BYTES, UNREAD_SECONDS = 4 * MOST_BODY_BYTES, 0.5
WRONG_TOKENS, WRONG_SECONDS = 10, 60.0
"""So many wrong tokens an address may send in so many seconds. The right one is always let in: behind a proxy all have
the same address."""
MOST_ADDRESSES = 1000
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware. `private`: whether only this machine can reach the port."""

    def __init__(self, app: ASGIApp, token: SecretStr | None, *, private: bool) -> None:
        self._app = app
        self._token = token.get_secret_value().encode() if token else None
        self._private = private
        self._turns = Turns()
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""

        async def decorated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._turns.wait()
        if refusal := self._refusal(scope):
            await read_away(receive)
        await (refusal or self._app)(scope, receive, decorated)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        return oversized(scope) or (None if scope["path"] in OPEN_TO_ALL else self._stranger(scope))

    def _stranger(self, scope: Scope) -> JSONResponse | None:
        """Return what whoever has no right to ask is told."""
        headers = Headers(scope=scope)
        if self._token is None:
            closed = "set DISPATCHER_HTTP_TOKEN: without it only the bare health paths are open beyond loopback"
            named = "by another name than localhost this port can only be asked with DISPATCHER_HTTP_TOKEN set"
            if not self._private:
                return refused(403, closed)
            return None if of_loopback(headers.get("host", "")) else refused(403, named)
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(token.encode("latin-1"), self._token):
            return None
        if given and self._too_many(scope["client"][0] if scope.get("client") else ""):
            return refused(429, "too many wrong tokens", {"retry-after": str(int(WRONG_SECONDS))})
        return refused(401, "a bearer token is needed", {"www-authenticate": "Bearer"})

    def _too_many(self, address: str) -> bool:
        """Count a wrong token; return whether the address has sent too many lately."""
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.clear()
        times = self._wrong.setdefault(address, deque(maxlen=WRONG_TOKENS))
        now = time.monotonic()
        spent = len(times) == WRONG_TOKENS and now - times[0] < WRONG_SECONDS
        if not spent:
            times.append(now)
        return spent


async def read_away(receive: Receive) -> None:
    """Read what comes with a request that is refused: closing over unread bytes takes the answer away with them."""
    left = MOST_UNREAD_BYTES
    with anyio.move_on_after(UNREAD_SECONDS):
        while left > 0 and (message := await receive()).get("more_body"):
            left -= len(message["body"])


def of_loopback(host: str) -> bool:
    """Return whether a Host header names loopback.

    A page of another site can let its own name point here, and would then be of the same origin for its browser.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def oversized(scope: Scope) -> JSONResponse | None:
    """Refuse what is too large before anybody reads it."""
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MOST_HEADER_BYTES:  # ": " and CRLF
        return refused(431, "headers are too large")
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return refused(411, "say how long the body is")
    if int(headers.get("content-length", "0")) > MOST_BODY_BYTES:
        return refused(413, "the body is too large")
    return None


def refused(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says no, and ends the connection: whatever follows is not read."""
    return JSONResponse({"error": reason}, status, {"connection": "close", **(headers or {})})
