"""Facts that several fault tests wait for or end with."""

from typing import Any

from tests.support.proxy import FaultProxy
from tests.support.stack import Process, Stack
from tests.support.waits import eventually


async def effects_are_exactly(stack: Stack, count: int) -> None:
    """Novu accepted so many, each once."""
    summary = await stack.novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (count, 0)


async def posts(stack: Stack) -> list[Any]:
    """Return the triggers that Novu answered, without the empty ones that only ask whether it honours keys."""
    return [request for request in await stack.novu.requests() if request.method == "POST" and request.subscribers]


async def caught(proxy: FaultProxy) -> bool:
    """Return whether the trap has closed."""
    return proxy.caught.is_set()


async def on_the_wire(stack: Stack) -> None:
    """Wait until the slow call has reached Novu."""

    async def arrived() -> bool:
        return (await stack.novu.fault_counts())[-1] == 1

    await eventually(arrived, f"a call on the wire; {stack.log_tails()}")


async def slow_call(stack: Stack, recipient: object = "") -> None:
    """Make Novu's next call take 2 s."""
    await stack.novu.add_fault("delay", recipient=str(recipient), seconds=2, times=1)


async def proven(process: Process, times: int, within: float = 20) -> None:
    """Wait until the listener was proven so often."""

    async def enough() -> bool:
        return process.read_log().count('"listening"') >= times

    await eventually(enough, f"listener proven {times} times; log:\n{process.read_log()[-2000:]}", within)


async def noticed(process: Process, within: float = 15) -> None:
    """Wait until the listener reports that it receives nothing."""

    async def told() -> bool:
        return '"not_listening"' in process.read_log()

    await eventually(told, f"loss noticed; log:\n{process.read_log()[-2000:]}", within)


async def effects_above(stack: Stack, least: int) -> bool:
    """Return whether Novu accepted more than so many."""
    return (await stack.novu.summary()).effects > least
