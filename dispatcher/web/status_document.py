"""What /status says, from the condition and the metrics of this process and the database's numbers.

The first keys are XNovu's, so that what watched it can watch us; those from `broken` on are ours.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dispatcher.telemetry import metrics
from dispatcher.telemetry.health import ProcessHealth

BACKLOG = ("due", "scheduled", "retries", "retries_due", "in_flight", "overdue", "to_cancel", "dead_letters", "rows")
MAX_QUEUE_AGE_SECONDS = 120.0
"""What we promise: every due row has its outcome within two minutes."""


def listener_counts(condition: ProcessHealth, numbers: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return how many dispatchers live, how many of them are told and how many poll; ourselves while nobody knows."""
    nodes = [node for node in numbers.get("nodes", []) if node["role"] != "worker"]  # which looks for nothing
    if not nodes and "listener" in condition.expected:
        heard = condition.state("listener") == "healthy"
        return 1, int(heard), int(not heard)
    active = sum(node["mode"] == "EVENT" for node in nodes)
    return len(nodes), active, len(nodes) - active


def status(condition: ProcessHealth, numbers: Mapping[str, Any], enterprises: Sequence[str]) -> dict[str, Any]:
    """Return the parts of /status that do not belong to the HTTP process itself."""
    total, active, reconnecting = listener_counts(condition, numbers)
    temporal = condition.state("temporal")
    running = "STOPPED" if condition.stopping or not total else "RUNNING"
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
            for part, outage in condition.outages.items()
        },
        "waiting_for": sorted(condition.not_reported_yet),
        "listener": listener(condition),
        "sweep": sweep(condition, numbers),
        "novu": {"status": condition.state("novu")},
        "backlog": {**{key: numbers.get(key) for key in BACKLOG}, "oldest_seconds": numbers.get("oldest_age")},
        "notification_queue_usage": numbers.get("queue_usage"),
        "nodes": numbers.get("nodes", []),
    }


def queue(numbers: Mapping[str, Any]) -> str:
    """Return whether rows leave as fast as they come: none is due for long."""
    if not numbers:
        return "not_initialized"
    return "unhealthy" if numbers["oldest_age"] > MAX_QUEUE_AGE_SECONDS else "healthy"


def listener(condition: ProcessHealth) -> dict[str, Any]:
    """Return how this process hears; a process without a listener knows nothing of it."""
    if "listener" not in condition.expected:
        return {"status": "not_initialized"}
    return {
        "status": condition.state("listener"),
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
    """Return the time that a metric holds; None while it never was."""
    seconds = metrics.metric_value(name)
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def sweep(condition: ProcessHealth, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the rows nobody told us of are looked for."""
    nodes = [node["last_sweep_at"] for node in numbers.get("nodes", []) if node["last_sweep_at"]]
    return {
        "status": condition.state("sweep"),
        "last_sweep_at": max(nodes, default=None),
        "found_rows": int(metrics.metric_value("dispatcher_sweep_found_rows_total")),
    }


def subscriptions(condition: ProcessHealth, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return /health/subscriptions."""
    total, active, _ = listener_counts(condition, numbers)
    heard = listener(condition)
    if not total:
        return {"status": "no_polling_loop", "message": "no dispatcher is running", "listener": heard}
    return {
        "status": "healthy" if active == total else "degraded",
        "polling_loop": {"status": "running"},
        "subscription_manager": {
            "isActive": True,
            "isHealthy": active == total,
            "retryCount": heard.get("reconnects", 0),
            "maxRetries": None,
            "events": heard.get("notifications", 0),
        },
        "listener": heard,
    }
