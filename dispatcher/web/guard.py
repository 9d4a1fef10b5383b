"""Checks before every route: the token, the size of the request; and the headers of every response."""

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
"""The plain health paths, which need no token: they show a state and no details."""
MAX_BODY_BYTES = 65_536
MAX_DRAINED_BYTES, DRAIN_SECONDS = 4 * MAX_BODY_BYTES, 0.5
MAX_WRONG_TOKENS, WRONG_TOKEN_SECONDS = 10, 60.0
"""An address may send 10 wrong tokens in 60 s. The right token is always accepted, because behind a proxy all clients
have the same address."""
MAX_ADDRESSES = 1000
"""How many addresses with wrong tokens are remembered; above that, all are forgotten."""
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware. `private`: whether only this machine can reach the port. `token`: None if none is set."""

    def __init__(self, app: ASGIApp, token: SecretStr | None, *, private: bool) -> None:
        self._app = app
        self._token = token.get_secret_value().encode() if token else None
        self._private = private
        self._wrong_token_limiter = RateLimiter()
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the app, or refuse it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._wrong_token_limiter.acquire()
        if refusal := self._refusal(scope):
            await drain_body(receive)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        return oversized(scope) or (None if scope["path"] in PUBLIC_PATHS else self._unauthorized(scope))

    def _unauthorized(self, scope: Scope) -> JSONResponse | None:
        """Return the refusal for a request without the right token, or None if it may pass."""
        headers = Headers(scope=scope)
        if self._token is None:
            not_open = "set DISPATCHER_HTTP_TOKEN: without it other machines may read only the plain health paths"
            not_local = "set DISPATCHER_HTTP_TOKEN: without it the Host header must be localhost or a loopback address"
            if not self._private:
                return refusal(403, not_open)
            return None if names_loopback(headers.get("host", "")) else refusal(403, not_local)
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(token.encode("latin-1"), self._token):
            return None
        if given and self._too_many_wrong_tokens(scope["client"][0] if scope.get("client") else ""):
            return refusal(429, "too many wrong tokens", {"retry-after": str(int(WRONG_TOKEN_SECONDS))})
        return refusal(401, "a bearer token is needed", {"www-authenticate": "Bearer"})

    def _too_many_wrong_tokens(self, address: str) -> bool:
        """Count a wrong token; return whether the address has sent 10 others within 60 s."""
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.clear()
        times = self._wrong.setdefault(address, deque(maxlen=MAX_WRONG_TOKENS))
        now = time.monotonic()
        too_many = len(times) == MAX_WRONG_TOKENS and now - times[0] < WRONG_TOKEN_SECONDS
        if not too_many:
            times.append(now)
        return too_many


async def drain_body(receive: Receive) -> None:
    """Read the body of a refused request, up to 256 KiB or 0.5 s. Closing over unread bytes would reset the connection,
    and the client could lose the response."""
    left = MAX_DRAINED_BYTES
    with anyio.move_on_after(DRAIN_SECONDS):
        while left > 0 and (message := await receive()).get("more_body"):
            left -= len(message["body"])


def names_loopback(host: str) -> bool:
    """Return whether a Host header names loopback.

    Another site can let its own name point to this machine; for a browser its pages then have the same origin as ours.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def oversized(scope: Scope) -> JSONResponse | None:
    """Return the refusal for a request that is too large or of unknown length, before its body is read."""
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER_BYTES:  # ": " and CRLF
        return refusal(431, "headers are too large")
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return refusal(411, "a Content-Length header is needed")
    if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        return refusal(413, "the body is too large")
    return None


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error response that closes the connection, so that further requests on it are not read."""
    return JSONResponse({"error": reason}, status, {"connection": "close", **(headers or {})})
