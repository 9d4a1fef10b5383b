"""Every metric of this process, declared once; the database's own are in http/numbers.py.

Names are a contract with dashboards and alerts. No label holds an id of a tenant, a recipient or a row.
"""

import platform
import time
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from dispatcher import __version__
from dispatcher.models.call_result import AnswerClass
from dispatcher.models.notification import Notification, Status
from dispatcher.telemetry.labels import COMPONENTS, WAKE_SOURCES

FAST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

ENDPOINTS = ("trigger", "bulk", "read", "cancel")

disable_created_metrics()  # a series more for each, which nobody reads

base_registry = CollectorRegistry()
"""What every process has."""
registry = CollectorRegistry()
"""What `dispatcher run` has besides."""

BUILD = Gauge("dispatcher_build_info", "1; the labels tell what runs.", ["version", "python"], registry=base_registry)
BUILD.labels(__version__, platform.python_version()).set(1)
ProcessCollector(registry=base_registry)
COMPONENT_FAILED = Gauge("dispatcher_part_broken", "1 while this part does not work.", ["part"], registry=base_registry)

LISTENER_CONNECTED = Gauge("dispatcher_listener_connected", "1 while LISTEN is in force.", registry=registry)
LISTENER_VERIFIED = Gauge(
    "dispatcher_listener_verified", "1 while a NOTIFY from another connection arrives; else we poll.", registry=registry
)
LISTENER_RECONNECTS = Counter(
    "dispatcher_listener_reconnects", "Times the listener had to connect again.", ["reason"], registry=registry
)
NOTIFICATIONS_RECEIVED = Counter(
    "dispatcher_notifications_received", "NOTIFYs heard: wake-ups, and our own probes.", ["kind"], registry=registry
)
LAST_NOTIFICATION = Gauge(
    "dispatcher_listener_last_notification_timestamp_seconds", "When the last wake-up was heard.", registry=registry
)
LAST_CANARY = Gauge(
    "dispatcher_listener_last_canary_timestamp_seconds", "When our own probe was last heard.", registry=registry
)

CLAIMED = Counter("dispatcher_claimed_rows", "Rows taken, by what led to them.", ["source"], registry=registry)
DISPATCH = Counter(
    "dispatcher_dispatch", "Workflows to start, by what led to them.", ["source", "outcome"], registry=registry
)
DISPATCH_LATENCY = Histogram(
    "dispatcher_dispatch_latency_seconds",
    "From a row's insert, or the time it is scheduled for, to its run; of first sendings.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
ACCEPT_LATENCY = Histogram(
    "dispatcher_accept_latency_seconds",
    "From a row's insert, or the time it is scheduled for, to SENT in its first run; of first sendings.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
INFLIGHT = Gauge("dispatcher_inflight_dispatches", "Workflow starts that wait for Temporal.", registry=registry)
TEMPORAL_START = Histogram(
    "dispatcher_temporal_start_seconds",
    "Calls that start a workflow.",
    ["outcome"],
    buckets=FAST_BUCKETS,
    registry=registry,
)

DELIVER = Histogram(
    "dispatcher_deliver_seconds",
    "Runs of deliver, each for one row or a batch.",
    buckets=SLOW_BUCKETS,
    registry=registry,
)
SETTLED = Counter("dispatcher_settled_rows", "Rows whose run ended, by status.", ["status"], registry=registry)
DEAD_LETTERS = Counter("dispatcher_dead_lettered_rows", "Rows given up, to wait for a person.", registry=registry)
NOVU_TRIGGERS = Counter(
    "dispatcher_novu_triggers", "Recipients triggered, by what the answer means.", ["outcome"], registry=registry
)
NOVU_REQUESTS = Counter(
    "dispatcher_novu_requests", "Requests to Novu, by class of status.", ["endpoint", "status"], registry=registry
)
NOVU_SECONDS = Histogram(
    "dispatcher_novu_request_seconds", "How long Novu takes.", ["endpoint"], buckets=SLOW_BUCKETS, registry=registry
)
CANCELS = Counter(
    "dispatcher_cancels", "Recipients taken back at Novu after a retraction.", ["outcome"], registry=registry
)

SWEEP_RUNS = Counter("dispatcher_sweep_runs", "Sweeps.", ["outcome"], registry=registry)
SWEEP_FOUND = Counter(
    "dispatcher_sweep_found_rows", "Rows of crashed processes and lost runs, found by the sweep.", registry=registry
)
SWEEP_DURATION = Histogram("dispatcher_sweep_duration_seconds", "How long a sweep takes.", registry=registry)
SWEEP_SUCCESS = Gauge(
    "dispatcher_sweep_last_success_timestamp_seconds", "When the last sweep succeeded.", registry=registry
)

LABEL_VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "dispatcher_part_broken": {"part": COMPONENTS},
    "dispatcher_listener_reconnects": {"reason": ("lost", "unheard")},
    "dispatcher_notifications_received": {"kind": ("wake_up", "canary")},
    "dispatcher_claimed_rows": {"source": WAKE_SOURCES},
    "dispatcher_dispatch": {"source": WAKE_SOURCES, "outcome": ("started", "handed_back")},
    "dispatcher_temporal_start_seconds": {"outcome": ("started", "already_running", "error")},
    "dispatcher_settled_rows": {"status": tuple(status for status in Status if status.is_final)},
    "dispatcher_novu_triggers": {"outcome": tuple(AnswerClass)},
    "dispatcher_novu_requests": {"endpoint": ENDPOINTS, "status": ("1xx", "2xx", "3xx", "4xx", "5xx", "none")},
    "dispatcher_novu_request_seconds": {"endpoint": ENDPOINTS},
    "dispatcher_cancels": {"outcome": ("cancelled", "given_up")},
    "dispatcher_sweep_runs": {"outcome": ("ok", "lost", "failed")},
}
"""What the labels say. An alert that asks for another word could never fire."""


def observe_first_run(row: Notification) -> None:
    """Count how long a row waited, when its first run takes it."""
    if row.first_attempt and 0 <= row.age_seconds < inf:  # the owner's times can be anything
        DISPATCH_LATENCY.observe(row.age_seconds)


def count_final(row: Notification) -> None:
    """Count how a row ended, once that is written."""
    if row.final_status is None:
        return
    SETTLED.labels(row.final_status.status).inc()
    if row.final_status.status != Status.SENT and row.final_status.retry_in is None:
        DEAD_LETTERS.inc()
    if row.final_status.status == Status.SENT and row.first_attempt and 0 <= row.age_seconds < inf:
        ACCEPT_LATENCY.observe(row.age_seconds + time.monotonic() - row.acquired_at)


class Timed:
    """Measures its block; `outcome`, the label, is "error" unless the block says otherwise."""

    def __init__(self, histogram: Histogram) -> None:
        self.outcome = "error"
        self._histogram = histogram

    def __enter__(self) -> "Timed":
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._histogram.labels(self.outcome).observe(time.perf_counter() - self._began)


def metric_value(name: str, **labels: str) -> float:
    """Return what a metric stands at."""
    return registry.get_sample_value(name, labels) or 0.0
