"""The outbox and the ledger in numbers, asked for at most once a second, however many want to know.

A question that takes long is asked seldom: never more than a twentieth of the time. Numbers stay until newer ones come,
so whoever asks is told how old they are.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from psycopg.errors import QueryCanceled

from dispatcher.postgres.operator_queries import NODE_TTL
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import error_code, get_logger

MIN_QUERY_SECONDS = 1.0
COUNT_INTERVAL_SECONDS = 15.0
"""How often every row is counted; the backlog's indexes are read more often."""
MAX_COUNT_INTERVAL_SECONDS = 3600.0
"""When it is tried again after it took too long."""
SHARE = 20
READ_TIMEOUT_SECONDS = 2.0
"""How long a request waits for newer numbers."""
STALE_SECONDS = 10.0
"""A database that lets a question wait for longer is not well; counting a large table may take a while."""
MAX_COUNTED_ROWS = 5_000_000
"""Rows of a table in which they are all counted."""

log = get_logger("backlog_metrics")

GAUGES = {
    "due": ("dispatcher_outbox_due_rows", "Rows due now that nobody has taken."),
    "scheduled": ("dispatcher_outbox_scheduled_rows", "Rows that wait for their time."),
    "oldest_age": ("dispatcher_outbox_oldest_pending_age_seconds", "How long the oldest due row has waited."),
    "retries": ("dispatcher_outbox_retry_rows", "Failed rows that are tried again, of all enterprises."),
    "in_flight": ("dispatcher_outbox_in_flight_rows", "Rows in work, of all enterprises."),
    "overdue": ("dispatcher_outbox_overdue_rows", "Rows in work whose lease ran out, of all enterprises."),
    "to_cancel": ("dispatcher_retracted_recipients", "Recipients to be taken back at Novu, of all enterprises."),
    "dead_letters": ("dispatcher_dead_letter_rows", "Rows that wait for a person."),
    "queue_usage": ("dispatcher_pg_notification_queue_usage_ratio", "How full PostgreSQL's queue of NOTIFYs is."),
}


class BacklogMetrics:
    """The latest numbers. `outbox` is where they come from, once there is one."""

    def __init__(self) -> None:
        self.outbox: OutboxStore | None = None
        self.error: str | None = None
        self.known: dict[str, Any] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked = self._answered = self._again = self._count_again = 0.0

    async def read(self) -> Mapping[str, Any]:
        """Return the numbers, after a moment newer ones if it is time; empty while there are none."""
        now = time.monotonic()
        if self.outbox is not None and now >= self._again and (self._asking is None or self._asking.done()):
            self._asked = now
            self._asking = asyncio.create_task(self._query(self.outbox))
        if self._asking is not None and not self._asking.done():
            await asyncio.wait([self._asking], timeout=max(0.0, self._asked + READ_TIMEOUT_SECONDS - now))
        return self.known

    @property
    def age(self) -> float | None:
        """How old the numbers are, in seconds."""
        return time.monotonic() - self._answered if self.known else None

    @property
    def is_stale(self) -> bool:
        """Whether the database lets the last question wait."""
        asking = self._asking is not None and not self._asking.done()
        return asking and time.monotonic() - self._asked > STALE_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether the database answers, so that the numbers are worth telling."""
        return bool(self.known) and self.error is None and not self.is_stale

    async def _query(self, outbox: OutboxStore) -> None:
        """Ask once. Not more often than is good for the database, and every row even less often, never at first."""
        all_rows = bool(self.known) and self._asked >= self._count_again
        pause = MIN_QUERY_SECONDS
        try:
            found = await outbox.backlog_stats(all_rows=all_rows, living=NODE_TTL, most_counted=MAX_COUNTED_ROWS)
        except QueryCanceled:  # counting took too long, which is an answer too; without it comes another next time
            self._count_again = time.monotonic() + MAX_COUNT_INTERVAL_SECONDS
            health.report_ok("postgres")
        except CONNECTION_ERRORS as error:
            self.error = health.one_line_reason(f"{type(error).__name__}: {error}")
            health.report_failure("postgres", self.error)
        except Exception as error:  # a right may be missing; what else this process does goes on
            if self.error is None:
                log.exception("numbers_failed")
            self.error = error_code(error)
        else:
            self._store(found, all_rows=all_rows)
            pause = max(MIN_QUERY_SECONDS, SHARE * (self._answered - self._asked))
        self._again = time.monotonic() + pause

    def _store(self, found: dict[str, Any], *, all_rows: bool) -> None:
        self._answered = time.monotonic()
        if all_rows:
            self._count_again = self._answered + COUNT_INTERVAL_SECONDS
        else:
            found["rows"] = self.known.get("rows")
        self.known, self.error = found, None
        health.report_ok("postgres")

    def collect(self) -> Iterator[Metric]:
        """Yield the latest numbers as Prometheus's client wants them; none that an outage has made old."""
        about = "1 while the database answers; without it, it has no other numbers."
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
        yield labelled_gauge("dispatcher_nodes", "Dispatchers that live, by how they find rows.", "mode", modes)


def labelled_gauge(name: str, about: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    """Return one gauge with a value per label."""
    family = GaugeMetricFamily(name, about, labels=[label])
    for each, value in values:
        family.add_metric([each], value)
    return family
