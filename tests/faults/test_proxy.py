"""The fault proxy itself, in front of an echo server: each fault is seen by the client and counted."""

import asyncio
import gc
import socket
import time
import warnings
from collections.abc import AsyncIterator

import pytest

from tests.support.proxy import FaultProxy, proxied

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
opened: list[Pair] = []


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    served: list[asyncio.Task[None]] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(
        lambda *pair: served.append(asyncio.create_task(echo(*pair))), "127.0.0.1", 0
    ) as server:
        async with proxied(*server.sockets[0].getsockname()) as proxy:
            yield proxy
            for _, writer in opened:
                writer.close()
            opened.clear()
        await asyncio.gather(*served)


async def connect(proxy: FaultProxy) -> Pair:
    opened.append(await asyncio.open_connection("127.0.0.1", proxy.port))
    return opened[-1]


async def exchange(pair: Pair, words: bytes) -> bytes:
    """Say something and return as much of an answer, or what came until the end."""
    pair[1].write(words)
    return await asyncio.wait_for(pair[0].read(len(words)), 2)


async def silent(pair: Pair) -> bool:
    """Return whether nothing comes although it would have come by now."""
    try:
        await asyncio.wait_for(pair[0].read(1), 0.1)
    except TimeoutError:
        return True
    return False


async def test_proxy_passes_bytes_in_both_directions(proxy: FaultProxy):
    pair = await connect(proxy)
    assert await exchange(pair, b"hello") == b"hello"
    assert (proxy.counts["up"], proxy.counts["down"], proxy.counts["accepted"]) == (5, 5, 1)
    pair[1].write_eof()
    assert await asyncio.wait_for(pair[0].read(), 2) == b""


async def test_delay_applies_to_both_directions(proxy: FaultProxy):
    pair = await connect(proxy)
    proxy.delay, proxy.jitter = 0.05, 0.01
    started = time.monotonic()
    assert await exchange(pair, b"hello") == b"hello"
    assert 0.08 <= time.monotonic() - started < 1
    assert proxy.counts["delayed"] == 2


@pytest.mark.parametrize("directions", [(), ("up",), ("down",)], ids=["both", "up", "down"])
async def test_stall_keeps_the_connection_and_the_bytes(proxy: FaultProxy, directions: tuple[str, ...]):
    pair = await connect(proxy)
    proxy.stall(*directions)
    pair[1].write(b"hello")
    assert await silent(pair)
    assert proxy.counts["stalled_down" if directions == ("down",) else "stalled_up"] == 5
    await proxy.heal()
    assert await asyncio.wait_for(pair[0].readexactly(5), 2) == b"hello"


async def test_only_present_connections_stall_for_ever(proxy: FaultProxy):
    old = await connect(proxy)
    assert await exchange(old, b"a") == b"a"
    proxy.stall_present()
    old[1].write(b"hello")
    assert await silent(old)
    assert await exchange(await connect(proxy), b"b") == b"b"


async def test_budget_cuts_at_the_byte_with_rst(proxy: FaultProxy):
    proxy.budgets = iter([7])
    pair = await connect(proxy)
    pair[1].write(b"12345")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(pair[0].readexactly(5), 2)
    assert (proxy.counts["cut"], proxy.counts["up"], proxy.counts["down"]) == (1, 5, 2)
    assert await exchange(await connect(proxy), b"again") == b"again"


async def test_reset_sends_rst(proxy: FaultProxy):
    pair = await connect(proxy)
    assert await exchange(pair, b"a") == b"a"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(pair[0].read(1), 2)
    assert proxy.counts["reset"] == 1


async def test_refused_connections_are_accepted_again_on_the_same_port(proxy: FaultProxy):
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.open()
    assert await exchange(await connect(proxy), b"a") == b"a"


async def test_blackhole_accepts_and_then_passes_nothing(proxy: FaultProxy):
    proxy.mute = True
    pair = await connect(proxy)
    pair[1].write(b"hello")
    assert await silent(pair)
    assert (proxy.counts["muted"], proxy.counts["up"]) == (1, 0)


async def test_trap_passes_the_request_and_delays_the_answer(proxy: FaultProxy):
    pair = await connect(proxy)
    proxy.trap(b"commit")
    assert await exchange(pair, b"begin com") == b"begin com"
    pair[1].write(b"mit now")
    await asyncio.wait_for(proxy.caught.wait(), 2)
    assert await silent(pair)
    assert proxy.counts["up"] == 16
    await proxy.heal()
    assert await asyncio.wait_for(pair[0].readexactly(7), 2) == b"mit now"


async def test_inject_writes_in_the_clients_name(proxy: FaultProxy):
    pair = await connect(proxy)
    assert await exchange(pair, b"a") == b"a"
    proxy.inject(b"forged")
    assert await asyncio.wait_for(pair[0].readexactly(6), 2) == b"forged"
    assert proxy.counts["injected"] == 1


def test_late_client_leaves_no_open_socket():
    async def ended_after(turns: int) -> None:
        proxy = FaultProxy("127.0.0.1", 1)
        await proxy.open()
        with socket.create_connection(("127.0.0.1", proxy.port)):
            for _ in range(turns):  # of the loop: accepted, a stream made of it, handed over, begun
                await asyncio.sleep(0)
            await proxy.close()

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        for turns in range(8):
            asyncio.run(ended_after(turns))
            gc.collect()
    assert [str(warning.message) for warning in heard] == []
