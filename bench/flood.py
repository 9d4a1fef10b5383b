"""Measures the effect of a flood of requests to the health port on the latency of notifications.

One Dispatcher, one row at a time as in latency.py, in rounds of three kinds: without a flood, with a flood at another
port, and with the same flood at its own port. A flood has a fixed number of requests per second, and slow clients that
begin a request and never end it. It comes from another process on this machine, which costs CPU too. Therefore the p99
with the flood at our port is compared with the p99 with the flood at a port that no process serves.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.block import Block, block
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.latency import WARM_UP, one_row
from bench.stack import Stack
from bench.verdict import spread
from dispatcher.web.server import bind

ALONE, ELSEWHERE, FLOODED = "alone", "flood elsewhere", "flooded"
PATHS = ("/livez", "/status", "/metrics", "/nowhere")
PACE_SECONDS = 0.05
ANSWER_TIMEOUT_SECONDS = 2.0
START_TIMEOUT_SECONDS = 30.0
SETTLE_SECONDS = 1.0
"""Pause after a flood, until its last requests are finished."""


def figure(kind: str) -> str:
    """Return the name of the figure of one kind of flood."""
    return f"p99, {kind}"


async def one_block(stack: Stack, contestant: Contestant, rows: int, a_second: int, slow: int) -> Values:
    """Return the p99 of `rows` rows for each kind; `a_second` requests per second, `slow` slow clients."""
    requests: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    async with block(stack, contestant) as running:
        with bind("127.0.0.1", 0) as other_port:
            for _ in range(WARM_UP):
                await one_row(running)
            seconds[ALONE] = await measure_rows(stack, running, rows)
            async with run_flood(other_port.getsockname()[1], a_second, slow, {}):
                seconds[ELSEWHERE] = await measure_rows(stack, running, rows)
            async with run_flood(port_of(running.log), a_second, slow, requests):
                seconds[FLOODED] = await measure_rows(stack, running, rows)
    values = {figure(kind): Value(spread(found).p99_ms, "ms") for kind, found in seconds.items()}
    return values | {
        "requests": Value(requests["sent"], "requests", Better.CONTROL),
        "requests answered with 200": Value(requests.get("200", 0), "requests", Better.CONTROL),
    }


async def measure_rows(stack: Stack, running: Block, rows: int) -> list[float]:
    """Return the seconds from commit to Novu's request of `rows` rows."""
    committed = dict([await one_row(running) for _ in range(rows)])
    arrived = {
        request.subscribers[0]: request.started_at for request in await stack.novu.requests() if request.subscribers
    }
    return [arrived[recipient] - moment for recipient, moment in committed.items()]


def port_of(log: Path) -> int:
    """Return the port that a Dispatcher logged."""
    return int(re.findall(r'"event": "http".*?"port": (\d+)', log.read_text())[0])


@asynccontextmanager
async def run_flood(port: int, a_second: int, slow: int, requests: dict[str, int]) -> AsyncGenerator[None]:
    """Flood the port for the block, from another process; add the number of its requests by answer to `requests`."""
    command = (sys.executable, "-m", "bench.flood", str(port), str(a_second), str(slow))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            await process.stdout.readline()  # the flood has begun
        yield
        output, _ = await process.communicate(b"")  # the end of its input tells it to stop
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for name, count in json.loads(output).items():
        requests[name] = requests.get(name, 0) + count
    await asyncio.sleep(SETTLE_SECONDS)


async def send_flood(port: int, a_second: int, slow: int) -> Counter[str]:
    """Send `a_second` requests per second until stdin ends; return how many were sent, and how many by answer."""
    counts: Counter[str] = Counter()
    tasks = {asyncio.create_task(send_slowly(port, counts)) for _ in range(slow)}
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    before = time.monotonic()
    started = False
    while not over.done():
        await asyncio.sleep(PACE_SECONDS)
        if counts["no answer"] + counts["200"] and not started:
            started = True
            print("started", flush=True)
        # Requests that a busy machine could not send in time are not sent later all at once.
        now = time.monotonic()
        due, before = round(min(now - before, 2 * PACE_SECONDS) * a_second), now
        for _ in range(due):
            path = PATHS[counts["sent"] % len(PATHS)]
            counts["sent"] += 1
            tasks.add(task := asyncio.create_task(send_request(port, path, counts)))
            task.add_done_callback(tasks.discard)
    for task in tuple(tasks):
        task.cancel()
    return counts


async def send_request(port: int, path: str, counts: Counter[str]) -> None:
    """Send one request on its own connection; count its answer, by status."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                status = (await reader.read())[9:12].decode() or "closed"
            finally:
                writer.transport.abort()
    except TimeoutError:
        status = "no answer"
    except OSError:
        status = "refused"
    counts[status] += 1


async def send_slowly(port: int, counts: Counter[str]) -> None:
    """Begin a request and never end it; after the server closes the connection, begin again."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            end = asyncio.create_task(reader.read())
            try:
                writer.write(b"GET /livez HTTP/1.1\r\nx: ")
                while not (await asyncio.wait([end], timeout=1))[0]:
                    writer.write(b"a")
                counts["slow, closed"] += 1
            finally:
                writer.transport.abort()
                await asyncio.gather(end, return_exceptions=True)
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    os.nice(19)  # lowest priority: a real flood would come from other machines
    print(json.dumps(asyncio.run(send_flood(*map(int, sys.argv[1:4])))))
