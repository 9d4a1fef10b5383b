"""Measures how many events per second the fake Novu accepts in bulk calls of 100, from raw clients with ready bodies.

The client writes ready-made requests to a few keep-alive connections and reads nothing but status and length, so the
measurement is that of the server. Run it on an otherwise idle machine with two cores: `python -m bench.fake_novu`.
"""

import asyncio
import json
import sys
import time

from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu

EVENTS_PER_CALL = 100


def request(api_key: str, number: int) -> bytes:
    """Return the bytes of one bulk request; each event has its own transactionId and subscriber."""
    events = [
        {
            "name": "default-multi-channel",
            "to": f"018f3c1e-0000-7000-8000-{number:06d}{index:06d}",
            "transactionId": f"dsp-1-{number}-{index}",
            "payload": {"title": "Lift 3 is out of order", "message": "Please use lift 1.", "floor": index},
            "overrides": {},
        }
        for index in range(EVENTS_PER_CALL)
    ]
    body = json.dumps({"events": events}).encode()
    head = (
        "POST /v1/events/trigger/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: ApiKey {api_key}\r\nIdempotency-Key: bench-{number}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def send(port: int, requests: list[bytes]) -> None:
    """Send the requests one after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for message in requests:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(head.decode())
        length = head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
    writer.close()


async def measure(novu: FakeNovu, calls: int, connections: int) -> float:
    """Return events per second over `calls` bulk calls on `connections` connections."""
    port = int(novu.url.rsplit(":", 1)[1])
    requests = [request(novu.api_key, number) for number in range(calls)]
    started = time.perf_counter()
    await asyncio.gather(*(send(port, requests[first::connections]) for first in range(connections)))
    return calls * EVENTS_PER_CALL / (time.perf_counter() - started)


async def main(calls: int = 600) -> None:
    """Measure with 1, 4 and 16 connections, and print the rates."""
    for connections in (1, 4, 16):
        async with run_fake_novu() as novu:
            rate = await measure(novu, calls, connections)
            summary = await novu.summary()
            print(f"{connections:3d} connections: {rate:9,.0f} events/s, {summary.effects:,} effects")


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:])))
