"""How much each part measures: rows, recipients, enterprises and seconds. A record names the sizes of its run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """The sizes of a full run."""

    latency_rows: int = 100
    steady_seconds: int = 8
    stream_seconds: int = 15
    rows: int = 10_000
    peer_rows: int = 2_000
    solo_rows: int = 1_000
    tenant_rows: int = 20_000
    """Rows of one enterprise; as many of 2,000 enterprises and of 20,000, and five times as many of 200."""
    recipients: tuple[int, ...] = (10_000, 50_000, 100_000)
    urgent_backlog: int = 60_000
    urgent_reference: int = 2_000
    backlogs: tuple[int, ...] = (10_000, 1_000_000)
    backlog_enterprises: tuple[int, ...] = (1, 200, 20_000)
    history_rows: int = 2_000_000
    idle_seconds: int = 20
    producer_seconds: int = 6
    recovery_bursts: int = 5
    recovery_rows: int = 4_000
    flood_rows: int = 100
    flood_requests_a_second: int = 2_000
    flood_slow_clients: int = 500

    @property
    def tenants(self) -> tuple[tuple[int, int], ...]:
        """Return (enterprises, rows of each): one enterprise first, the most enterprises last."""
        rows = self.tenant_rows
        return (1, rows), (max(2, rows // 100), min(500, rows)), (max(2, rows // 10), 10), (rows, 1)


QUICK = Sizes(
    latency_rows=4,
    steady_seconds=1,
    stream_seconds=1,
    rows=300,
    peer_rows=40,
    solo_rows=20,
    tenant_rows=100,
    recipients=(100, 200, 300),
    urgent_backlog=300,
    urgent_reference=50,
    backlogs=(7_000, 8_000),
    backlog_enterprises=(1, 7, 50),
    history_rows=500,
    idle_seconds=1,
    producer_seconds=1,
    recovery_bursts=1,
    recovery_rows=200,
    flood_rows=8,
    flood_requests_a_second=200,
    flood_slow_clients=20,
)


def parse(words: list[str], sizes: Sizes) -> Sizes:
    """Return `sizes` with changes such as "rows=500" and "recipients=100,200,300"; ValueError for any other words."""
    known: dict[str, Any] = {field.name: getattr(sizes, field.name) for field in fields(sizes)}
    changed: dict[str, Any] = {}
    for word in words:
        name, _, numbers = word.partition("=")
        if name not in known:
            raise ValueError(f"no size {name!r}: choose of {', '.join(known)}")
        values = tuple(map(int, numbers.split(",")))
        wanted = len(known[name]) if isinstance(known[name], tuple) else 1
        if len(values) != wanted or min(values) < 1:
            raise ValueError(f"{name} is {wanted} number(s) from 1 up")
        changed[name] = values if isinstance(known[name], tuple) else values[0]
    return replace(sizes, **changed)


def of_record(record: Mapping[str, Any]) -> Sizes:
    """Return the sizes that a record names."""
    sizes: dict[str, Any] = record["sizes"]
    return replace(Sizes(), **{name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()})
