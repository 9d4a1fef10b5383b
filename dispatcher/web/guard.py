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

from dispatcher.web.server import MAX_HEADER_BYTES, RateLimiter

PUBLIC_PATHS = frozenset({"/health", "/livez", "/readyz", "/startupz"})
"""The bare health paths: they say how we are and nothing else."""
MAX_BODY_BYTES = 65_536
MAX_DRAINED_BYTES, DRAIN_SECONDS = 4 * MAX_BODY_BYTES, 0.5
MAX_WRONG_TOKENS, WRONG_TOKEN_SECONDS = 10, 60.0
"""So many wrong tokens an address may send in so many seconds. The right one is always let in: behind a proxy all have
the same address."""
MAX_ADDRESSES = 1000
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
        self._wrong_token_limiter = RateLimiter()
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""

        async def decorated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._wrong_token_limiter.acquire()
        if refusal := self._refusal(scope):
            await drain_body(receive)
        await (refusal or self._app)(scope, receive, decorated)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        return oversized(scope) or (None if scope["path"] in PUBLIC_PATHS else self._unauthorized(scope))

    def _unauthorized(self, scope: Scope) -> JSONResponse | None:
        """Return what whoever has no right to ask is told."""
        headers = Headers(scope=scope)
        if self._token is None:
            closed = "set DISPATCHER_HTTP_TOKEN: without it only the bare health paths are open beyond loopback"
            named = "by another name than localhost this port can only be asked with DISPATCHER_HTTP_TOKEN set"
            if not self._private:
                return refusal(403, closed)
            return None if names_loopback(headers.get("host", "")) else refusal(403, named)
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(token.encode("latin-1"), self._token):
            return None
        if given and self._too_many_wrong_tokens(scope["client"][0] if scope.get("client") else ""):
            return refusal(429, "too many wrong tokens", {"retry-after": str(int(WRONG_TOKEN_SECONDS))})
        return refusal(401, "a bearer token is needed", {"www-authenticate": "Bearer"})

    def _too_many_wrong_tokens(self, address: str) -> bool:
        """Count a wrong token; return whether the address has sent too many lately."""
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.clear()
        times = self._wrong.setdefault(address, deque(maxlen=MAX_WRONG_TOKENS))
        now = time.monotonic()
        spent = len(times) == MAX_WRONG_TOKENS and now - times[0] < WRONG_TOKEN_SECONDS
        if not spent:
            times.append(now)
        return spent


async def drain_body(receive: Receive) -> None:
    """Read what comes with a request that is refused: closing over unread bytes takes the answer away with them."""
    left = MAX_DRAINED_BYTES
    with anyio.move_on_after(DRAIN_SECONDS):
        while left > 0 and (message := await receive()).get("more_body"):
            left -= len(message["body"])


def names_loopback(host: str) -> bool:
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
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER_BYTES:  # ": " and CRLF
        return refusal(431, "headers are too large")
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return refusal(411, "say how long the body is")
    if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        return refusal(413, "the body is too large")
    return None


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says no, and ends the connection: whatever follows is not read."""
    return JSONResponse({"error": reason}, status, {"connection": "close", **(headers or {})})
