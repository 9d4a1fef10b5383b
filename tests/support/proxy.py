"""A TCP proxy on loopback that breaks connections on purpose and counts what it did, so that no fault can miss unseen.
"up" is towards the server, "down" towards the client. Runs in the test's own event loop."""

import asyncio
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 65536
BOTH = ("up", "down")
ACCEPT_SECONDS = 0.01
"""Seconds in which the loop hands over what it has accepted, and closes what was aborted."""
LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Link:
    """One client's connection through the proxy."""

    writers: dict[str, asyncio.StreamWriter]
    """By the direction in which they carry bytes."""
    budget: int | None = None
    """After so many bytes, both ways together, it is cut."""
    stalled: set[str] = field(default_factory=set[str])
    tail: bytes = b""

    def abort(self, *, hard: bool) -> None:
        """End both sides: with RST, or with FIN."""
        for writer in self.writers.values():
            if hard:
                with suppress(OSError):
                    if raw := writer.get_extra_info("socket"):  # a TLS one forgets it when it ends
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Carries bytes between clients and one server. Faults hold for what comes after they are set."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self.context = context
        """Ends TLS here, where given; what arrives is handed on in clear."""
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.caught = asyncio.Event()
        self.links: set[Link] = set()
        self.delay = self.jitter = 0.0
        self.rate: float | None = None
        """Bytes a second, per connection and direction."""
        self.mute = False
        self.budgets: Iterator[int] = iter(())
        self._dice = random.Random(1)
        self._stalled: set[str] = set()
        self._flowing = asyncio.Condition()
        self._trap: bytes | None = None
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def open(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    def lead_to(self, host: str, port: int) -> None:
        """Lead new connections to another server; the present ones stay where they are."""
        self._target = (host, port)

    async def refuse(self) -> None:
        """Refuse new connections until `open`; the present ones stay."""
        assert self._server is not None
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(
            ACCEPT_SECONDS
        )  # what the loop has accepted, Python 3.11 drops unclosed when its server closes
        self._server.close()

    def reset(self, *, hard: bool = True) -> None:
        """End every present connection."""
        for link in list(self.links):
            self.counts["reset"] += 1
            link.abort(hard=hard)

    def stall(self, *directions: str) -> None:
        """Hold bytes back, in both directions or the ones named; the connections stay up, new ones stall too."""
        self._stalled |= set(directions or BOTH)

    def stall_present(self) -> None:
        """Hold back for ever what the present connections carry; new ones pass."""
        for link in self.links:
            link.stalled |= set(BOTH)

    async def heal(self) -> None:
        """Carry everything again, what was held back first."""
        self._stalled.clear()
        self._trap = None
        self.delay = self.jitter = 0.0
        self.rate = None
        self.mute = False
        async with self._flowing:
            self._flowing.notify_all()

    def trap(self, pattern: bytes) -> None:
        """Once a client has sent `pattern`, pass no answer any more: the server executed it, its answer is lost."""
        self.caught.clear()
        self._trap = pattern

    def inject(self, data: bytes) -> None:
        """Say something to the server in every present client's name."""
        for link in self.links:
            link.writers["up"].write(data)
            self.counts["injected"] += 1

    async def close(self) -> None:
        """End everything, and what was accepted a moment ago too."""
        await self.refuse()
        for link in list(self.links):
            link.abort(hard=True)
        for task, writer in self._tasks.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(ACCEPT_SECONDS)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["accepted"] += 1
        task = asyncio.create_task(self._link(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mute:
            self.counts["muted"] += 1
            try:
                await reader.read()  # until the client has enough
            finally:
                writer.close()
            return
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            writer.close()
            return
        link = Link({"up": to_server, "down": writer}, next(self.budgets, None))
        self.links.add(link)
        try:
            await asyncio.gather(self._carry(link, "up", reader), self._carry(link, "down", server))
        finally:
            self.links.discard(link)
            link.abort(hard=False)

    async def _carry(self, link: Link, direction: str, reader: asyncio.StreamReader) -> None:
        """Read at once, write when due, so that a delay does not become a narrow pipe."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.create_task(self._write(link, direction, due))
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK):
                    wait = max(0.0, self.delay + self._dice.uniform(-self.jitter, self.jitter))
                    self.counts["delayed"] += wait > 0
                    due.put_nowait((time.monotonic() + wait, data))
            due.put_nowait((0.0, b""))
            await writing
        finally:
            writing.cancel()

    async def _write(self, link: Link, direction: str, due: asyncio.Queue[tuple[float, bytes]]) -> None:
        writer = link.writers[direction]
        while True:
            at, data = await due.get()
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            if direction in self._stalled | link.stalled:
                self.counts[f"stalled_{direction}"] += len(data)
                async with self._flowing:
                    await self._flowing.wait_for(lambda: direction not in self._stalled | link.stalled)
            await self._squeeze(len(data))
            allowed = len(data) if link.budget is None else min(link.budget, len(data))
            with suppress(OSError):
                if not data:
                    writer.close()
                    return
                writer.write(data[:allowed])
                await writer.drain()
            self.counts[direction] += allowed
            self._watch(link, direction, data)
            if link.budget is not None and link.budget <= len(data):
                self.counts["cut"] += 1
                link.abort(hard=True)
                return
            link.budget = None if link.budget is None else link.budget - allowed

    async def _squeeze(self, size: int) -> None:
        """Take as long as a narrow pipe takes; a pipe that is widened meanwhile lets the rest through."""
        self.counts["squeezed"] += self.rate is not None
        while self.rate is not None and size > 0:
            await asyncio.sleep(0.05)
            size -= int(0.05 * (self.rate or size))

    def _watch(self, link: Link, direction: str, data: bytes) -> None:
        if direction == "up" and self._trap is not None:
            seen = link.tail + data
            if self._trap in seen:
                self._stalled.add("down")
                self._trap = None
                self.counts["caught"] += 1
                self.caught.set()
            link.tail = seen[-256:]


@asynccontextmanager
async def proxied(host: str, port: int, context: ssl.SSLContext | None = None) -> AsyncGenerator[FaultProxy]:
    """Run a proxy in front of a server for the block."""
    proxy = FaultProxy(host, port, context)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
