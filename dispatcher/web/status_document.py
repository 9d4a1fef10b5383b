"""The document of /status, from health and metrics of this process and the numbers of the database.

The keys before `broken` are XNovu's, so that its monitoring works unchanged; `broken` and the keys after it are ours.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dispatcher.telemetry import metrics
from dispatcher.telemetry.health import ProcessHealth

BACKLOG = (
    "due",
    "scheduled",
    "retries",
    "retries_due",
    "in_flight",
    "overdue",
    "to_cancel",
    "refused",
    "dead_letters",
    "rows",
)
MAX_QUEUE_AGE_SECONDS = 120.0
"""Above this age of the oldest due row, the queue is unhealthy. We promise an outcome within two minutes."""


def listener_counts(health: ProcessHealth, numbers: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return how many dispatchers are alive, how many of them listen, and how many poll.

    Without numbers from the database, count this process alone.
    """
    nodes = [
        node for node in numbers.get("nodes", []) if node["role"] != "worker"
    ]  # a worker claims no rows, so it needs no wake-ups
    if not nodes and "listener" in health.expected:
        listens = health.state("listener") == "healthy"
        return 1, int(listens), int(not listens)
    active = sum(node["mode"] == "EVENT" for node in nodes)
    return len(nodes), active, len(nodes) - active


def status(health: ProcessHealth, numbers: Mapping[str, Any], enterprises: Sequence[str]) -> dict[str, Any]:
    """Return /status without the keys that `Health` adds: the short state, and the database."""
    total, active, reconnecting = listener_counts(health, numbers)
    temporal = health.state("temporal")
    running = "STOPPED" if health.stopping or not total else "RUNNING"
    return {
        "components": {
            "subscriptions": {"total": total, "active": active, "failed": 0, "reconnecting": reconnecting},
            "ruleEngine": "not_initialized",
            "temporal": temporal,
            "queue": queue(numbers),
        },
        "enterprise_status": dict.fromkeys(enterprises, "subscribed" if active else "error"),
        "temporal_status": {"status": temporal, "orchestrationWorkflow": running, "pollingLoop": running},
        "broken": {
            part: {"since": outage.since.isoformat(), "seconds": round(outage.seconds, 1), "reason": outage.reason}
            for part, outage in health.outages.items()
        },
        "waiting_for": sorted(health.not_reported_yet),
        "listener": listener(health),
        "sweep": sweep(health, numbers),
        "novu": {"status": health.state("novu")},
        "backlog": {**{key: numbers.get(key) for key in BACKLOG}, "oldest_seconds": numbers.get("oldest_age")},
        "notification_queue_usage": numbers.get("queue_usage"),
        "nodes": numbers.get("nodes", []),
    }


def queue(numbers: Mapping[str, Any]) -> str:
    """Return the state of the queue: unhealthy if a row has been due for more than two minutes."""
    if not numbers:
        return "not_initialized"
    return "unhealthy" if numbers["oldest_age"] > MAX_QUEUE_AGE_SECONDS else "healthy"


def listener(health: ProcessHealth) -> dict[str, Any]:
    """Return the state of this process's LISTEN connection; `not_initialized` if it has none by its role."""
    if "listener" not in health.expected:
        return {"status": "not_initialized"}
    return {
        "status": health.state("listener"),
        "connected": bool(metrics.metric_value("dispatcher_listener_connected")),
        "verified": bool(metrics.metric_value("dispatcher_listener_verified")),
        "reconnects": int(
            sum(metrics.metric_value("dispatcher_listener_reconnects_total", reason=why) for why in ("lost", "unheard"))
        ),
        "notifications": int(metrics.metric_value("dispatcher_notifications_received_total", kind="wake_up")),
        "last_notification_at": metric_time("dispatcher_listener_last_notification_timestamp_seconds"),
        "last_canary_at": metric_time("dispatcher_listener_last_canary_timestamp_seconds"),
    }


def metric_time(name: str) -> str | None:
    """Return the time in a metric as ISO 8601, or None if it is still 0."""
    seconds = metrics.metric_value(name)
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def sweep(health: ProcessHealth, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of the sweeps, and the time of the last one of any dispatcher."""
    nodes = [node["last_sweep_at"] for node in numbers.get("nodes", []) if node["last_sweep_at"]]
    return {
        "status": health.state("sweep"),
        "last_sweep_at": max(nodes, default=None),
        "found_rows": int(metrics.metric_value("dispatcher_sweep_found_rows_total")),
    }


def subscriptions(health: ProcessHealth, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of /health/subscriptions, in XNovu's shape."""
    total, active, _ = listener_counts(health, numbers)
    listener_state = listener(health)
    if not total:
        return {"status": "no_polling_loop", "message": "no dispatcher is running", "listener": listener_state}
    return {
        "status": "healthy" if active == total else "degraded",
        "polling_loop": {"status": "running"},
        "subscription_manager": {
            "isActive": True,
            "isHealthy": active == total,
            "retryCount": listener_state.get("reconnects", 0),
            "maxRetries": None,
            "events": listener_state.get("notifications", 0),
        },
        "listener": listener_state,
    }
