"""A dispatcher with nothing to do sleeps: it does not poll, and commits ring."""

from house import House


async def test_it_falls_asleep_after_the_start_and_after_a_row(house: House):
    await house.running()
    for _ in range(3):
        await house.asleep(20)
        await house.final(await house.notify())
    await house.asleep(20)
