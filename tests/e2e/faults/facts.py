"""Facts that several fault tests wait for or end with."""

from house import House
from proxy import FaultProxy


async def effects_are_exactly(house: House, count: int) -> None:
    """Novu accepted so many, each once."""
    summary = await house.novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (count, 0)


async def caught(proxy: FaultProxy) -> bool:
    """Return whether the trap has closed."""
    return proxy.caught.is_set()
