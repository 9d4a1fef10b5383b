"""The metrics of a process, each declared once. Those read from the database are in web/backlog_metrics.py.

Names and labels are a contract with dashboards and alerts. No label contains the id of a tenant, recipient or row.
"""

import platform
import time
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from dispatcher import __version__
from dispatcher.models.call_result import AnswerClass
from dispatcher.models.notification import FINAL_STATUSES, Notification, Status
from dispatcher.telemetry.labels import COMPONENTS, WAKE_SOURCES

FAST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

ENDPOINTS = ("trigger", "bulk", "read", "cancel")

disable_created_metrics()  # they would add a series to each counter and histogram; no dashboard or alert uses them

base_registry = CollectorRegistry()
"""The metrics of every process."""
registry = CollectorRegistry()
"""The metrics that only `dispatcher run` has."""

BUILD = Gauge(
    "dispatcher_build_info", "Always 1; the labels are the versions.", ["version", "python"], registry=base_registry
)
BUILD.labels(__version__, platform.python_version()).set(1)
ProcessCollector(registry=base_registry)
COMPONENT_FAILED = Gauge(
    "dispatcher_part_broken", "1 while this part of the process does not work.", ["part"], registry=base_registry
)

LISTENER_CONNECTED = Gauge("dispatcher_listener_connected", "1 while LISTEN is active.", registry=registry)
LISTENER_VERIFIED = Gauge(
    "dispatcher_listener_verified",
    "1 while test NOTIFYs from another connection arrive; at 0 the table is polled.",
    registry=registry,
)
LISTENER_RECONNECTS = Counter(
    "dispatcher_listener_reconnects", "Reconnects of the listener.", ["reason"], registry=registry
)
NOTIFICATIONS_RECEIVED = Counter(
    "dispatcher_notifications_received",
    "NOTIFYs received: wake-ups, and the listener's own canaries.",
    ["kind"],
    registry=registry,
)
LAST_NOTIFICATION = Gauge(
    "dispatcher_listener_last_notification_timestamp_seconds", "Time of the last wake-up.", registry=registry
)
LAST_CANARY = Gauge(
    "dispatcher_listener_last_canary_timestamp_seconds", "Time of the last canary that arrived.", registry=registry
)

CLAIMED = Counter(
    "dispatcher_claimed_rows", "Rows claimed, by the source of the wake-up.", ["source"], registry=registry
)
DISPATCH = Counter(
    "dispatcher_dispatch",
    "Workflows to start, by the source of the wake-up and the result.",
    ["source", "outcome"],
    registry=registry,
)
DISPATCH_LATENCY = Histogram(
    "dispatcher_dispatch_latency_seconds",
    "From a row's insert, or its scheduled time, to the start of its first run.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
ACCEPT_LATENCY = Histogram(
    "dispatcher_accept_latency_seconds",
    "From a row's insert, or its scheduled time, to SENT, for rows sent in their first run.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
INFLIGHT = Gauge(
    "dispatcher_inflight_dispatches", "Workflow starts that wait for Temporal's answer.", registry=registry
)
TEMPORAL_START = Histogram(
    "dispatcher_temporal_start_seconds",
    "Duration of the calls that start a workflow.",
    ["outcome"],
    buckets=FAST_BUCKETS,
    registry=registry,
)

DELIVER = Histogram(
    "dispatcher_deliver_seconds",
    "Duration of the activity deliver, for one row or a batch.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
SETTLED = Counter("dispatcher_settled_rows", "Rows whose run ended, by final status.", ["status"], registry=registry)
DEAD_LETTERS = Counter(
    "dispatcher_dead_lettered_rows",
    "Rows that became a dead letter: they are not retried automatically.",
    registry=registry,
)
NOVU_TRIGGERS = Counter(
    "dispatcher_novu_triggers", "Recipients triggered, by the meaning of Novu's answer.", ["outcome"], registry=registry
)
NOVU_REQUESTS = Counter(
    "dispatcher_novu_requests",
    "Requests to Novu, by endpoint and class of HTTP status.",
    ["endpoint", "status"],
    registry=registry,
)
NOVU_SECONDS = Histogram(
    "dispatcher_novu_request_seconds",
    "Duration of requests to Novu.",
    ["endpoint"],
    buckets=SLOW_BUCKETS,
    registry=registry,
)
CANCELS = Counter(
    "dispatcher_cancels",
    "Recipients whose notification was to be cancelled at Novu after a retraction, by result.",
    ["outcome"],
    registry=registry,
)

SWEEP_RUNS = Counter("dispatcher_sweep_runs", "Sweeps, by result.", ["outcome"], registry=registry)
SWEEP_FOUND = Counter(
    "dispatcher_sweep_found_rows",
    "Orphaned rows found by the sweep: of crashed processes and of lost runs.",
    registry=registry,
)
SWEEP_DURATION = Histogram("dispatcher_sweep_duration_seconds", "Duration of a sweep.", registry=registry)
SWEEP_SUCCESS = Gauge(
    "dispatcher_sweep_last_success_timestamp_seconds", "Time of the last successful sweep.", registry=registry
)

LABEL_VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "dispatcher_part_broken": {"part": COMPONENTS},
    "dispatcher_listener_reconnects": {"reason": ("lost", "unheard")},
    "dispatcher_notifications_received": {"kind": ("wake_up", "canary")},
    "dispatcher_claimed_rows": {"source": WAKE_SOURCES},
    "dispatcher_dispatch": {"source": WAKE_SOURCES, "outcome": ("started", "handed_back")},
    "dispatcher_temporal_start_seconds": {"outcome": ("started", "already_running", "error")},
    "dispatcher_settled_rows": {"status": FINAL_STATUSES},
    "dispatcher_novu_triggers": {"outcome": tuple(AnswerClass)},
    "dispatcher_novu_requests": {"endpoint": ENDPOINTS, "status": ("1xx", "2xx", "3xx", "4xx", "5xx", "none")},
    "dispatcher_novu_request_seconds": {"endpoint": ENDPOINTS},
    "dispatcher_cancels": {"outcome": ("cancelled", "given_up")},
    "dispatcher_sweep_runs": {"outcome": ("ok", "lost", "failed")},
}
"""The values of each label. An alert that matches another value could never fire; a test checks this."""


def observe_first_run(row: Notification) -> None:
    """Observe the seconds that a row waited until its first run acquired it."""
    if row.first_attempt and 0 <= row.age_seconds < inf:  # the application may write any times
        DISPATCH_LATENCY.observe(row.age_seconds)


def count_final(row: Notification) -> None:
    """Count a row's final status. To be called once that status is written."""
    if row.final_status is None:
        return
    SETTLED.labels(row.final_status.status).inc()
    if row.final_status.status != Status.SENT and row.final_status.retry_in is None:
        DEAD_LETTERS.inc()
    if row.final_status.status == Status.SENT and row.first_attempt and 0 <= row.age_seconds < inf:
        ACCEPT_LATENCY.observe(row.age_seconds + time.monotonic() - row.acquired_at)


class Timed:
    """Observes the duration of its block. The label `outcome` is "error" unless the block sets another value."""

    def __init__(self, histogram: Histogram) -> None:
        self.outcome = "error"
        self._histogram = histogram

    def __enter__(self) -> "Timed":
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._histogram.labels(self.outcome).observe(time.perf_counter() - self._began)


def metric_value(name: str, **labels: str) -> float:
    """Return the current value of a metric; 0.0 if it has none for these labels."""
    return registry.get_sample_value(name, labels) or 0.0
