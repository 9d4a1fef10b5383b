"""The HTTP client below novu-py: puts our body into requests, keeps the raw answer, and limits its size.

It sets no time limit for an answer. `NovuClient` limits each whole call, so that one clock alone decides when a call is
over, and cancels it: the connection is closed, and nothing of the call is in flight any more.
"""

import zlib
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx

from dispatcher.telemetry import metrics

MAX_CONNECTIONS = 100
CONNECT_TIMEOUT_SECONDS = 5
MAX_ANSWER_BYTES = 4_000_000
"""After decompression. Novu's longest answer, that to a bulk call, has a few hundred bytes for each of 100 events."""


class AnswerTooLarge(httpx.TransportError):
    """The answer has more than `MAX_ANSWER_BYTES`. Its connection is closed."""

    def __init__(self) -> None:
        super().__init__(f"answer too large: more than {MAX_ANSWER_BYTES} bytes")


@dataclass(slots=True)
class RequestContext:
    """One call: the body to send instead of the SDK's, if any, and the last answer received."""

    body: str | None = None
    response: httpx.Response | None = None


class RawJsonClient(httpx.AsyncClient):
    """The SDK's HTTP client. It sends our body instead of the one that the SDK made, and keeps the raw answer.

    Requests raise httpx.HTTPError, `AnswerTooLarge` among them.
    """

    def __init__(self) -> None:
        super().__init__(
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS, pool=CONNECT_TIMEOUT_SECONDS),
            headers={"accept-encoding": "gzip"},  # the only one that `read_answer` limits while it decompresses
            follow_redirects=False,  # a redirect would carry the key to another host
            trust_env=False,  # no proxy of the environment; a private CA is named by SSL_CERT_FILE or SSL_CERT_DIR
            verify=httpx.create_ssl_context(),
        )
        self._exchange: ContextVar[RequestContext] = ContextVar("exchange")

    @contextmanager
    def exchange(self, body: str | None = None) -> Generator[RequestContext]:
        """Send `body` in the one call that the block makes, and collect its answer."""
        exchange = RequestContext(body)
        token = self._exchange.set(exchange)
        try:
            yield exchange
        finally:
            self._exchange.reset(token)

    def build_request(self, *args: Any, **kwargs: Any) -> httpx.Request:
        """Build the SDK's request, with our body."""
        if (body := self._exchange.get().body) is not None:
            kwargs["content"] = body
        return super().build_request(*args, **kwargs)

    async def send(self, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        """Send the request, count and time it, and keep the answer, which is read whole.

        The SDK gets an empty list for the answer to a bulk call: `NovuClient` reads the kept one.
        """
        endpoint, status = endpoint_of(request), "none"
        kwargs["stream"] = True
        try:
            with metrics.NOVU_SECONDS.labels(endpoint).time():
                response = await read_answer(await super().send(request, **kwargs))
            status = f"{response.status_code // 100}xx"
        finally:
            metrics.NOVU_REQUESTS.labels(endpoint, status).inc()
        self._exchange.get().response = response
        return without_results(response) if endpoint == "bulk" and response.is_success else response


def without_results(response: httpx.Response) -> httpx.Response:
    """Return an answer to a bulk call that has no results, for which the SDK makes no models."""
    headers = {"content-type": "application/json"}
    return httpx.Response(response.status_code, headers=headers, content=b"[]", request=response.request)


async def read_answer(response: httpx.Response) -> httpx.Response:
    """Return the answer with its whole decompressed body, and close the stream.

    Raises AnswerTooLarge above `MAX_ANSWER_BYTES`, httpx.DecodingError for broken gzip.
    """
    packed = response.headers.get("content-encoding", "").lower() in ("gzip", "x-gzip")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if packed else None
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            # One byte more than is allowed proves that there is too much; the rest is never decompressed.
            body += unpacker.decompress(chunk, MAX_ANSWER_BYTES + 1 - len(body)) if unpacker else chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise AnswerTooLarge
    except zlib.error as error:
        raise httpx.DecodingError(str(error), request=response.request) from error
    finally:
        await response.aclose()  # before the end of the body this closes the connection, too
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=bytes(body),
        request=response.request,
        extensions=response.extensions,
    )


def endpoint_of(request: httpx.Request) -> str:
    """Return the metric label of a request: trigger, bulk, read or cancel."""
    if request.method == "DELETE":
        return "cancel"
    return "read" if request.method == "GET" else "bulk" if request.url.path.endswith("/bulk") else "trigger"
