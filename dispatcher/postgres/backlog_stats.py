"""The shape of the figures that `OutboxStore.backlog_stats` returns: the columns of queries/backlog_stats.sql."""

from typing import TypedDict


class NodeStats(TypedDict):
    """A live node. `started_at`, `last_sweep_at`: ISO times; `awake`: whether it suppresses NOTIFY."""

    id: str
    role: str
    host: str
    version: str
    mode: str
    started_at: str
    in_flight: int
    awake: bool
    seen_seconds_ago: float
    last_sweep_at: str | None


class BacklogStats(TypedDict):
    """The figures of outbox and ledger. Counts are rows unless another unit is given."""

    due: int
    scheduled: int
    oldest_age: float
    """Seconds that the oldest due row has waited; 0 without one."""
    retries: int
    retries_due: int
    in_flight: int
    overdue: int
    """Leased rows whose lease has expired."""
    to_cancel: int
    """Recipients to cancel at Novu."""
    queue_usage: float
    """The used share of PostgreSQL's NOTIFY queue, 0 to 1."""
    ledger_bytes: int
    """The size of our two large tables with their indexes."""
    outbox_bytes: int
    """The size of the outbox with its indexes."""
    nodes: list[NodeStats]
    rows: dict[str, int] | None
    """All rows by status; None if they were not counted."""
    refused: int
    """Rows to which a rule of the table refuses our write; they are counted as dead letters, too."""
    dead_letters: int
