"""Faults of the network between a dispatcher and its servers."""

import asyncio
import struct
from contextlib import suppress
from random import Random

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.injections import injection, met, some_slots
from tests.support.proxy import FaultProxy
from tests.support.statement_openings import opening
from tests.support.waits import last_value

ROADS = ("postgres", "listen", "temporal", "novu")
NAMED = {
    "postgres": tuple(opening(statement) for statement in ("claim", "acquire", "record_calls", "settle")),
    "temporal": (b"notification",),
    "novu": (b"POST /v1/events/trigger",),
}


def chosen(environment: ChaosEnvironment, dice: Random) -> tuple[str, list[FaultProxy]]:
    """Return a server with a description of the affected proxies, and these proxies."""
    road, slots = dice.choice(ROADS), some_slots(environment, dice)
    return f"{road} of slots {[slot.number for slot in slots]}", [slot.proxies[road] for slot in slots]


async def counted(proxies: list[FaultProxy], *names: str, within: float) -> int:
    """Wait until the proxies have counted something more, and return how much."""
    before = sum(proxy.counts[name] for proxy in proxies for name in names)

    async def more() -> int:
        return sum(proxy.counts[name] for proxy in proxies for name in names) - before

    return await last_value(more, within, every=0.05)


@injection("stalled road")
async def stall(environment: ChaosEnvironment, dice: Random) -> str:
    """Hold bytes back, in one direction or both, while the connections stay up."""
    words, proxies = chosen(environment, dice)
    directions = dice.choice((("up",), ("down",), ("up", "down")))
    seconds = dice.uniform(1, 4)
    try:
        for proxy in proxies:
            proxy.stall(*directions)
        held, _ = await asyncio.gather(counted(proxies, "stalled_up", "stalled_down", within=4), asyncio.sleep(seconds))
    finally:
        for proxy in proxies:
            await proxy.heal()
    met(held, f"nothing was on the road {words}")
    return f"{words}, {directions}, {seconds:.1f} s, {held} bytes"


@injection("cut connections")
async def cut(environment: ChaosEnvironment, dice: Random) -> str:
    """End every present connection, with RST or with FIN."""
    words, proxies = chosen(environment, dice)
    hard, links = dice.random() < 0.5, sum(len(proxy.links) for proxy in proxies)
    met(links, f"no connection on the road {words}")
    for proxy in proxies:
        proxy.reset(hard=hard)
    return f"{words}, {links} connections, {'RST' if hard else 'FIN'}"


@injection("reset at a byte")
async def at_a_byte(environment: ChaosEnvironment, dice: Random) -> str:
    """End new connections after so many bytes, a few times."""
    words, proxies = chosen(environment, dice)
    most = 20_000 if "novu" not in words else 3_000
    try:
        for proxy in proxies:
            proxy.budgets = iter([dice.randrange(1, most) for _ in range(4)])
            proxy.reset()
        cuts = await counted(proxies, "cut", within=8)
        await asyncio.sleep(1)
    finally:
        for proxy in proxies:
            proxy.budgets = iter(())
    met(cuts, f"nobody came along the road {words}")
    return f"{words}, at least {cuts} cuts"


@injection("slow road")
async def delay(environment: ChaosEnvironment, dice: Random) -> str:
    """Delay everything by up to half a second each way."""
    words, proxies = chosen(environment, dice)
    half, seconds = dice.uniform(0.02, 0.25), dice.uniform(3, 8)
    try:
        for proxy in proxies:
            proxy.delay = proxy.jitter = half
        late, _ = await asyncio.gather(counted(proxies, "delayed", within=8), asyncio.sleep(seconds))
    finally:
        for proxy in proxies:
            proxy.delay = proxy.jitter = 0.0
    met(late, f"nothing was on the road {words}")
    return f"{words}, 0 to {2 * half:.2f} s each way for {seconds:.1f} s"


async def refused(port: int) -> bool:
    """Return whether connections to this address are refused."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return False
    return True


@injection("refused connections")
async def refuse(environment: ChaosEnvironment, dice: Random) -> str:
    """Refuse new connections and end the present ones: the server is down, seen from there."""
    words, proxies = chosen(environment, dice)
    return f"{words}, {await shut(proxies, dice.uniform(1, 4)):.1f} s"


@injection("Novu down and up")
async def novu_away(environment: ChaosEnvironment, dice: Random) -> str:
    """No dispatcher reaches Novu."""
    return (
        f"for everybody, {await shut([slot.proxies['novu'] for slot in environment.slots], dice.uniform(2, 6)):.1f} s"
    )


async def shut(proxies: list[FaultProxy], seconds: float) -> float:
    """Refuse for so long; return it."""
    try:
        for proxy in proxies:
            await proxy.refuse()
            proxy.reset()
        met(await refused(proxies[0].port), "somebody still answers")
        await asyncio.sleep(seconds)
    finally:
        for proxy in proxies:
            with suppress(OSError):  # another fault has opened it already
                await proxy.open()
    return seconds


@injection("accepted and never answered")
async def mute(environment: ChaosEnvironment, dice: Random) -> str:
    """Accept new connections and say nothing."""
    words, proxies = chosen(environment, dice)
    seconds = dice.uniform(1, 4)
    try:
        for proxy in proxies:
            proxy.mute = True
            proxy.reset()
        muted, _ = await asyncio.gather(counted(proxies, "muted", within=5), asyncio.sleep(seconds))
    finally:
        for proxy in proxies:
            proxy.mute = False
    met(muted, f"nobody came along the road {words}")
    return f"{words}, {muted} connections, {seconds:.1f} s"


@injection("half-open connections")
async def half_open(environment: ChaosEnvironment, dice: Random) -> str:
    """Present connections carry nothing any more and stay up; the listener's for ever, the others' for seconds."""
    slot, road = dice.choice(environment.slots), dice.choice(("listen", "novu", "temporal", "postgres"))
    proxy, seconds = slot.proxies[road], dice.uniform(2, 4.5)
    links = list(proxy.links)
    met(links, f"no connection on the road {road}")
    proxy.stall_present()
    await asyncio.sleep(seconds)
    if road != "listen":
        for link in links:
            link.abort(hard=True)
    return f"{road} of slot {slot.number}, {len(links)} connections, {seconds:.1f} s"


@injection("answer held back and lost")
async def trap(environment: ChaosEnvironment, dice: Random) -> str:
    """The server executes a request, and its answer is lost."""
    road, slot = dice.choice(sorted(NAMED)), dice.choice(environment.slots)
    proxy, pattern = slot.proxies[road], dice.choice(NAMED[road])
    caught = proxy.counts["caught"]

    async def closed() -> bool:
        return proxy.counts["caught"] > caught

    try:
        proxy.reset()  # statements go by name once they are prepared; a new connection says them in full
        proxy.trap(pattern)
        met(await last_value(closed, 10, every=0.05), f"no client sent {pattern!r}")
        await asyncio.sleep(dice.uniform(0.2, 2))
    finally:
        proxy.reset()
        await proxy.heal()
    return f"{road} of slot {slot.number}, {pattern.decode()!r}"


@injection("LISTEN lost")
async def unlisten(environment: ChaosEnvironment, dice: Random) -> str:
    """The listening session loses its LISTEN without an error."""
    slot = dice.choice(environment.slots)
    words = b"unlisten *\0"
    slot.proxies["listen"].inject(b"Q" + struct.pack("!i", 4 + len(words)) + words)

    async def forgot() -> int:
        return await environment.value("select count(*) from pg_stat_activity where query = 'unlisten *'")

    met(await last_value(forgot, 5, every=0.05), "no session took it")
    return f"slot {slot.number}"
