"""The HTTP client below novu-py: puts our JSON texts into bodies, keeps the raw answer, and limits its size.

It sets no time limit for an answer. `NovuClient` limits each whole call, so that one clock alone decides when a call is
over, and cancels it: the connection is closed, and nothing of the call is in flight any more.
"""

import re
import secrets
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
    """One call of the SDK: the JSON texts to put into its body, and the last answer received."""

    texts: list[str] = field(default_factory=list[str])
    response: httpx.Response | None = None


class RawJsonClient(httpx.AsyncClient):
    """The SDK's HTTP client. It puts our JSON texts into the body that the SDK made, and keeps the raw answer.

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
        # A random mark, so that no payload can contain it.
        self._mark = secrets.token_hex(16)
        self._marked = re.compile(rf'\{{"layoutIdentifier":"{self._mark}-(\d+)"\}}')

    @contextmanager
    def exchange(self) -> Generator[RequestContext]:
        """Collect the texts and the answer of the one SDK call that the block makes."""
        exchange = RequestContext()
        token = self._exchange.set(exchange)
        try:
            yield exchange
        finally:
            self._exchange.reset(token)

    def placeholder(self, exchange: RequestContext, text: str) -> dict[str, str]:
        """Return an object that the SDK's models accept; `build_request` replaces it by `text`."""
        exchange.texts.append(text)
        return {"layoutIdentifier": f"{self._mark}-{len(exchange.texts) - 1}"}

    def build_request(self, *args: Any, **kwargs: Any) -> httpx.Request:
        """Build the SDK's request, with each placeholder replaced by its text."""
        content = kwargs.get("content")
        if isinstance(content, str):
            texts = self._exchange.get().texts
            kwargs["content"] = self._marked.sub(lambda match: texts[int(match[1])], content)
        return super().build_request(*args, **kwargs)

    async def send(self, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        """Send the request, count and time it, and keep the answer, which is read whole."""
        endpoint, status = endpoint_of(request), "none"
        kwargs["stream"] = True
        try:
            with metrics.NOVU_SECONDS.labels(endpoint).time():
                response = await read_answer(await super().send(request, **kwargs))
            status = f"{response.status_code // 100}xx"
        finally:
            metrics.NOVU_REQUESTS.labels(endpoint, status).inc()
        self._exchange.get().response = response
        return response


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
