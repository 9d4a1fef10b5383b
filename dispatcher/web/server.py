"""The HTTP port. It listens before anything is connected, and limits connections, headers, and the time of each step.

uvicorn's protocol class handles HTTP, one object for each connection. Its server class is not used: it would replace
our signal handlers, and accept connections without a limit.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from dispatcher.models.errors import ConfigurationError
from dispatcher.telemetry.logs import get_logger

MAX_CONNECTIONS = 64
BACKLOG = 32
"""At 25 connections a second, 32 are accepted in 1.3 s. In a longer backlog most clients would have timed out."""
MAX_HEADER_BYTES = 8192
HEADER_TIMEOUT_SECONDS = 5.0
"""How long a request's head may take, counted from the connection or from the last response."""
RESPONSE_TIMEOUT_SECONDS = 30.0
"""How long the rest may take, from the head of the request to the end of the response."""
SHUTDOWN_SECONDS = 2.0
"""How long open responses may take when the port closes."""
CONNECTIONS_PER_SECOND = 25
"""How many connections are accepted in a second; more wait. They cost at most 3 % of a core, so they delay no row."""
BURST = 50

log = get_logger("server")


class RateLimiter:
    """Lets `a_second` callers through each second, and `burst` more after a pause. The rest wait in their order."""

    def __init__(self, a_second: float = CONNECTIONS_PER_SECOND, burst: int = BURST) -> None:
        self._interval = 1 / a_second
        self._credit = burst * self._interval
        self._next = 0.0

    async def acquire(self) -> None:
        """Wait until the rate allows the caller."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._interval, now - self._credit)
        if self._next > now:
            await asyncio.sleep(self._next - now)


class BoundedConnection(H11Protocol):
    """uvicorn's connection, with a deadline for each step. `since`: the loop's time when it became idle."""

    _deadline: asyncio.TimerHandle | None = None
    since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served, so that the connection may be closed."""
        return not self.cycle or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection. Above 64, close the one that has been idle longest, or this one if none is idle."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._set_deadline(HEADER_TIMEOUT_SECONDS)
        if len(self.connections) > MAX_CONNECTIONS:
            idle = [
                each
                for each in self.connections
                if isinstance(each, BoundedConnection) and each.is_idle and each is not self
            ]
            min(idle, key=lambda each: each.since, default=self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle the bytes that arrived. As soon as a request is served, its deadline is the longer one."""
        served = self.cycle
        super().handle_events()
        if self.cycle is not served:
            self._set_deadline(RESPONSE_TIMEOUT_SECONDS)

    def on_response_complete(self) -> None:
        """Set the deadline for the head of the next request."""
        self.since = self.loop.time()
        self._set_deadline(HEADER_TIMEOUT_SECONDS)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 to bytes that are not HTTP. During a response that is impossible, so close the connection."""
        if self.is_idle:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address. Raises ConfigurationError if the address is in use or not ours."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except UnicodeError:
        raise ConfigurationError(f"DISPATCHER_HTTP_HOST: {host} is no host name") from None
    except OSError as error:
        raise ConfigurationError(
            f"DISPATCHER_HTTP_PORT: cannot listen at {host}:{port} ({error.strerror}). Another dispatcher may use it:"
            " choose another port, or 0 for any free port"
        ) from None
    listening.settimeout(0)
    return listening


def on_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    return ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


@asynccontextmanager
async def serving(listening: socket.socket, app: ASGIApp) -> AsyncGenerator[None]:
    """Serve the app at the socket during the block, and close the socket after it."""
    host, port = listening.getsockname()[:2]
    log.info("http", host=host, port=port)
    # uvicorn warns of every request that is not HTTP, and there can be many.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    state = ServerState()
    task = asyncio.create_task(accept_connections(listening, app, state))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        listening.close()
        await drain_connections(state)


async def drain_connections(state: ServerState) -> None:
    """Close idle connections, and wait up to 2 s for the responses of the others."""
    for each in tuple(state.connections):
        each.shutdown()
    if state.tasks:
        await asyncio.wait(tuple(state.tasks), timeout=SHUTDOWN_SECONDS)


async def accept_connections(listening: socket.socket, app: ASGIApp, state: ServerState) -> None:
    """Accept connections one by one, not faster than `CONNECTIONS_PER_SECOND`."""
    loop = asyncio.get_running_loop()
    limiter = RateLimiter()
    config: Any = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(HEADER_TIMEOUT_SECONDS) - 1,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    config.load()
    while True:
        try:
            connection, _ = await loop.sock_accept(listening)
            await loop.connect_accepted_socket(lambda: BoundedConnection(config, state, {}), connection)
        except OSError as error:  # no descriptor is free, or the client is gone already
            log.debug("not_accepted", error=str(error))
            await asyncio.sleep(0.05)
        await limiter.acquire()
