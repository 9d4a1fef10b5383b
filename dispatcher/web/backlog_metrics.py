"""The backlog in numbers, read from the database at most once a second, however many requests ask for them.

A slow query runs rarely: queries fill at most a twentieth of the time. Old numbers are kept until newer ones arrive, so
a response must show their age.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from psycopg.errors import QueryCanceled

from dispatcher.postgres.backlog_stats import BacklogStats
from dispatcher.postgres.operator_queries import NODE_TTL
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS, lock_reason
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import error_code, get_logger

MIN_QUERY_SECONDS = 1.0
COUNT_INTERVAL_SECONDS = 15.0
"""How often all rows are counted; the backlog alone is read more often, because it has indexes."""
MAX_COUNT_INTERVAL_SECONDS = 3600.0
"""The pause before all rows are counted again, after counting took too long."""
SHARE = 20
"""After a query, the pause is at least this many times its duration."""
READ_TIMEOUT_SECONDS = 2.0
"""How long a request waits for newer numbers before it gets the old ones."""
STALE_SECONDS = 10.0
"""A query that takes longer makes the database unhealthy. This is long enough to count a large table."""
MAX_COUNTED_ROWS = 5_000_000
"""In a larger table the rows are not counted."""

log = get_logger("backlog_metrics")

GAUGES = {
    "due": ("dispatcher_outbox_due_rows", "Rows that are due and not claimed."),
    "scheduled": ("dispatcher_outbox_scheduled_rows", "Rows that are scheduled for later."),
    "oldest_age": ("dispatcher_outbox_oldest_pending_age_seconds", "How long the oldest due row has waited."),
    "retries": ("dispatcher_outbox_retry_rows", "Failed rows that will be retried, of all enterprises."),
    "in_flight": ("dispatcher_outbox_in_flight_rows", "Rows in work, of all enterprises."),
    "overdue": ("dispatcher_outbox_overdue_rows", "Rows in work whose lease has run out, of all enterprises."),
    "to_cancel": ("dispatcher_retracted_recipients", "Recipients still to be cancelled at Novu, of all enterprises."),
    "refused": ("dispatcher_refused_rows", "Dead letters to which a rule of the outbox table refuses our write."),
    "dead_letters": (
        "dispatcher_dead_letter_rows",
        "Dead letters: failed rows that will not be retried automatically.",
    ),
    "ledger_bytes": ("dispatcher_ledger_bytes", "Size of the ledger with its indexes, in bytes."),
    "outbox_bytes": ("dispatcher_outbox_bytes", "Size of the outbox with its indexes, in bytes."),
    "queue_usage": (
        "dispatcher_pg_notification_queue_usage_ratio",
        "How full PostgreSQL's NOTIFY queue is, from 0 to 1.",
    ),
}


class BacklogMetrics:
    """The latest numbers, in `known`. They are empty until `outbox` is set, which the caller does after connecting."""

    def __init__(self) -> None:
        self.outbox: OutboxStore | None = None
        self.error: str | None = None
        self.known: dict[str, Any] = {}
        self._query_task: asyncio.Task[None] | None = None
        self._started = self._finished = self._next = self._next_count = 0.0

    async def read(self) -> Mapping[str, Any]:
        """Return the numbers. If a query is due, wait up to 2 s for it. They are empty before the first result."""
        now = time.monotonic()
        self.start_query()
        if self._query_task is not None and not self._query_task.done():
            await asyncio.wait([self._query_task], timeout=max(0.0, self._started + READ_TIMEOUT_SECONDS - now))
        return self.known

    def start_query(self) -> None:
        """Start a query if one is due."""
        now = time.monotonic()
        if self.outbox is not None and now >= self._next and (self._query_task is None or self._query_task.done()):
            self._started = now
            self._query_task = asyncio.create_task(self._query(self.outbox))

    @property
    def age(self) -> float | None:
        """The age of the numbers in seconds, or None while there are none."""
        return time.monotonic() - self._finished if self.known else None

    @property
    def is_stale(self) -> bool:
        """Whether the running query has taken more than 10 s."""
        running = self._query_task is not None and not self._query_task.done()
        return running and time.monotonic() - self._started > STALE_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether the last query succeeded, so that the numbers may be shown as present ones."""
        return bool(self.known) and self.error is None and not self.is_stale

    async def _query(self, outbox: OutboxStore) -> None:
        """Query once, and set the time of the next query. The first query never counts all rows."""
        all_rows = bool(self.known) and self._started >= self._next_count
        pause = MIN_QUERY_SECONDS
        try:
            found = await outbox.backlog_stats(all_rows=all_rows, living=NODE_TTL, most_counted=MAX_COUNTED_ROWS)
        except QueryCanceled:  # counting took too long, but the database answers; the next query leaves it out
            self._next_count = time.monotonic() + MAX_COUNT_INTERVAL_SECONDS
            health.report_ok("postgres")
        except LOCK_ERRORS as error:
            self.error = health.one_line_reason(lock_reason(error))
            health.report_ok("postgres")
        except CONNECTION_ERRORS as error:
            self.error = health.one_line_reason(f"{type(error).__name__}: {error}")
            health.report_failure("postgres", self.error)
        except Exception as error:  # for example a missing right; the rest of this process must go on
            if self.error is None:
                log.exception("numbers_failed")
            self.error = error_code(error)
        else:
            self._store(found, all_rows=all_rows)
            pause = max(MIN_QUERY_SECONDS, SHARE * (self._finished - self._started))
        self._next = time.monotonic() + pause

    def _store(self, found: BacklogStats, *, all_rows: bool) -> None:
        self._finished = time.monotonic()
        if all_rows:
            self._next_count = self._finished + COUNT_INTERVAL_SECONDS
        else:
            found["rows"] = self.known.get("rows")
        self.known, self.error = dict(found), None
        health.report_ok("postgres")

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers as Prometheus metrics. During an outage yield only `dispatcher_database_up`."""
        about = "1 while the database answers; while it is 0, the other numbers are missing."
        yield GaugeMetricFamily("dispatcher_database_up", about, value=float(self.is_current))
        if not self.is_current:
            return
        for key, (name, about) in GAUGES.items():
            if self.known.get(key) is not None:
                yield GaugeMetricFamily(name, about, value=float(self.known[key]))
        if self.known.get("rows") is not None:
            yield labelled_gauge("dispatcher_outbox_rows", "Rows, by status.", "status", self.known["rows"].items())
        nodes = [node for node in self.known["nodes"] if node["role"] != "worker"]
        modes = [(mode, sum(node["mode"] == mode for node in nodes)) for mode in ("EVENT", "POLLING")]
        yield labelled_gauge("dispatcher_nodes", "Live dispatchers, by how they learn of new rows.", "mode", modes)


def labelled_gauge(name: str, about: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    """Return a gauge with one value for each value of its label."""
    family = GaugeMetricFamily(name, about, labels=[label])
    for each, value in values:
        family.add_metric([each], value)
    return family
