"""An idle dispatcher sleeps: it does not poll, and commits send NOTIFY."""

from tests.support.stack import Stack


async def test_dispatcher_falls_asleep_after_its_start_and_after_a_row(stack: Stack):
    await stack.running()
    for _ in range(3):
        await stack.asleep(20)
        await stack.final(await stack.notify())
    await stack.asleep(20)
