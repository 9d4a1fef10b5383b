"""A dispatcher with nothing to do sleeps: it does not poll, and commits ring."""

from house import House, eventually


async def test_it_falls_asleep_after_the_start_and_after_a_row(house: House):
    await house.running()

    async def asleep() -> bool:
        return not await house.value("select bool_or(awake_until is not null) from dispatcher.node")

    for _ in range(3):
        await eventually(asleep, "a node that sleeps", 20)
        await house.final(await house.notify())
    await eventually(asleep, "a node that sleeps", 20)
