"""The port: bound before anything is connected, and bounded in everything a stranger could ask of it.

uvicorn speaks HTTP, one object per connection; its server class is not used: it would take our signal handlers over and
accept connections as fast as they come.
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
"""Whom the queue takes is let in within some 1.3 s: a longer one would be full of those who have given up."""
MAX_HEADER_BYTES = 8192
HEADER_TIMEOUT_SECONDS = 5.0
"""For a request's head to arrive, from connecting or from the last answer on."""
RESPONSE_TIMEOUT_SECONDS = 30.0
"""For everything from there to the answer."""
SHUTDOWN_SECONDS = 2.0
"""For what is being answered when the port closes."""
CONNECTIONS_PER_SECOND = 25
"""Together, and as many connections: what comes faster waits. A thirtieth of one core at most, so that no row waits."""
BURST = 50

log = get_logger("server")


class RateLimiter:
    """Lets so many a second through, after a burst; the others wait for their turn, in their order."""

    def __init__(self, a_second: float = CONNECTIONS_PER_SECOND, burst: int = BURST) -> None:
        self._interval = 1 / a_second
        self._credit = burst * self._interval
        self._next = 0.0

    async def acquire(self) -> None:
        """Return when it is the caller's turn."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._interval, now - self._credit)
        if self._next > now:
            await asyncio.sleep(self._next - now)


class BoundedConnection(H11Protocol):
    """One connection: uvicorn's, with a deadline for each step."""

    _deadline: asyncio.TimerHandle | None = None
    since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing of its is being served: it may be sent away."""
        return not self.cycle or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Come in; where all places are taken, whoever has waited longest without a request has to go."""
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
        """Forget the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Work on what has arrived; a request that began to be served has longer."""
        served = self.cycle
        super().handle_events()
        if self.cycle is not served:
            self._set_deadline(RESPONSE_TIMEOUT_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.since = self.loop.time()
        self._set_deadline(HEADER_TIMEOUT_SECONDS)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP. In the middle of an answer nothing can be said any more."""
        if self.is_idle:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


def bind(host: str, port: int) -> socket.socket:
    """Listen at the address; ConfigurationError when it is taken or not ours."""
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
        raise ConfigurationError(f"DISPATCHER_HTTP_HOST: {host} is no name of a machine") from None
    except OSError as error:
        raise ConfigurationError(
            f"DISPATCHER_HTTP_PORT: cannot listen at {host}:{port} ({error.strerror}). Another dispatcher perhaps?"
            " Choose another port; 0 takes a free one"
        ) from None
    listening.settimeout(0)
    return listening


def on_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    return ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


@asynccontextmanager
async def serving(listening: socket.socket, app: ASGIApp) -> AsyncGenerator[None]:
    """Serve for the block."""
    host, port = listening.getsockname()[:2]
    log.info("http", host=host, port=port)
    # What is not HTTP is no news, and there can be much of it.
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
    """Send away whoever asks nothing, and wait for the others' answers."""
    for each in tuple(state.connections):
        each.shutdown()
    if state.tasks:
        await asyncio.wait(tuple(state.tasks), timeout=SHUTDOWN_SECONDS)


async def accept_connections(listening: socket.socket, app: ASGIApp, state: ServerState) -> None:
    """Let connections in, one by one, and not faster than is good for the others in this process."""
    loop = asyncio.get_running_loop()
    turns = RateLimiter()
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
        except OSError as error:  # no descriptor left, or gone before we looked
            log.debug("not_accepted", error=str(error))
            await asyncio.sleep(0.05)
        await turns.acquire()
