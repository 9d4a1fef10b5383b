"""The client for Sentry. It collects nothing by itself, and hides secrets in the events it is given.

Only this module imports Sentry's library, and only if a DSN is set, because the import takes 0.25 s.
"""

import logging
import os
import socket
import uuid
from typing import TYPE_CHECKING, Any

from dispatcher import __version__
from dispatcher.config.settings import Settings
from dispatcher.models.errors import DispatcherError
from dispatcher.telemetry.redaction import hide_values, redact

if TYPE_CHECKING:
    from sentry_sdk import Client

MONITOR = "dispatcher-sweep"
MAX_QUEUED_EVENTS = 100
START_DEPTH = -20
"""`redact` stops at depth 5; the stack lies deeper in an event, so it starts to count here."""
MAX_FRAMES = 50
"""The number of list items that `redact` keeps."""


def build_client(settings: Settings, dsn: str) -> "Client":
    """Return a client that sends only the events it is given; ValueError for a DSN that is not valid."""
    from sentry_sdk import Client  # noqa: PLC0415  (see above)

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs each attempt
    return Client(
        dsn=dsn,
        environment=settings.sentry_environment,
        release=settings.sentry_release or release(),
        server_name=os.environ.get("DYNO") or socket.gethostname(),
        before_send=lambda event, _: redact(event, hide_values, START_DEPTH),
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        max_stack_frames=MAX_FRAMES,
        transport_queue_size=MAX_QUEUED_EVENTS,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        enable_logs=False,
        enable_metrics=False,
        debug=False,
        spotlight=False,
    )


def release() -> str:
    """Return the commit that the platform reports, or our version."""
    commits = (os.environ.get(name) for name in ("HEROKU_BUILD_COMMIT", "HEROKU_SLUG_COMMIT", "SOURCE_VERSION"))
    return next(filter(None, commits), f"dispatcher@{__version__}")


def check_in() -> dict[str, Any]:
    """Return a check-in for Sentry's monitor of the sweep; Sentry alerts after three that are missing."""
    return {
        "type": "check_in",
        "check_in_id": uuid.uuid4().hex,
        "monitor_slug": MONITOR,
        "status": "ok",
        "monitor_config": {
            "schedule": {"type": "interval", "value": 1, "unit": "minute"},
            "checkin_margin": 2,
            "failure_issue_threshold": 3,
            "recovery_threshold": 1,
        },
    }


def exception_payload(error: BaseException) -> dict[str, Any]:
    """Return the stacks of an error and its causes. Its message is included only for our own error classes."""
    from sentry_sdk.utils import event_from_exception  # noqa: PLC0415  (see above)

    options = {"include_local_variables": False, "include_source_context": True, "max_value_length": 1000}
    event: Any = event_from_exception(error, client_options=options)[0]
    causes = event["exception"]["values"]
    for cause in causes:
        cause["value"] = "the message is in the log"
    if isinstance(error, DispatcherError):
        causes[-1]["value"] = str(error)
    return {"exception": event["exception"]}
