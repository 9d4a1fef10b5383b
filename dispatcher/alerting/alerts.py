"""Sends alerts to Sentry, each problem once. Without SENTRY_DSN it is off, and Sentry's library is not imported.

No other code reports anything: a handler reads our own log, picks the events of `ALERT_RULES` and copies from each the
fields named there and nothing else. Texts of Novu and of exceptions stay in the log, because they can repeat the
content of a notification. Sentry may be slow or unreachable: alerts wait in a short queue of another thread; if it is
full, they are lost.
"""

import contextlib
import logging
import re
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatcher.alerting import sentry
from dispatcher.config.settings import Settings
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS
from dispatcher.telemetry import logs

if TYPE_CHECKING:
    from sentry_sdk import Client

BURST = 5
REFILL_SECONDS = 15.0
"""Of equal alerts, five are sent at once, then four a minute; with the last count at the end, ten at most."""
FLUSH_SECONDS = 2.0
"""How long the end of the process waits for Sentry."""
CHECK_IN_SECONDS = 60.0
"""Sentry accepts six check-ins a minute for a monitor, and drops further ones silently."""
SENTRY_LOGGERS = ("sentry_sdk", "urllib3")

log = logs.get_logger("alerts")


class AlertRule(NamedTuple):
    """One kind of alert. Alerts with equal values of `group_by` are one issue; `context_fields` are sent with it.

    `title` is a template over both; an empty one leaves the title to the exception. `when` and `remedy` are for the
    documentation.
    """

    level: str
    title: str
    group_by: tuple[str, ...]
    context_fields: tuple[str, ...]
    when: str
    remedy: str


def unexpected_error(subject: str, effect: str) -> AlertRule:
    """Return the rule for an unexpected error in `subject`; `effect` says how the process goes on."""
    return AlertRule(
        "error", "", (), (), f"{subject} raised an unexpected error", f"{effect}. Report it with its stack"
    )


ALERT_RULES = {
    "outage_began": AlertRule(
        "error",
        "{part} has failed: {reason}",
        ("part",),
        ("reason",),
        "a part stops working: postgres, outbox, listener, claim, temporal, novu, sweep or retraction; once for each"
        " outage",
        "Nothing is lost, rows wait. Runbook: DispatcherPartBroken",
    ),
    "outage_over": AlertRule(
        "info", "{part} works again after {seconds} s", ("part",), ("seconds",), "that part works again", "Nothing"
    ),
    "dead_letter": AlertRule(
        "error",
        "dead letter: {cause}",
        ("cause",),
        ("notification_id", "generation", "status", "workflow_id"),
        "a notification failed and will not be retried automatically",
        "`dispatcher show ID`, correct the cause, `dispatcher retry ID`",
    ),
    "row_refused": AlertRule(
        "error",
        "a rule of the outbox table refuses our write to a row: {code}",
        ("code",),
        ("notification_id",),
        "a constraint or a trigger of the table refuses a row's claim, outcome or retraction",
        "`dispatcher show ID` has the table's words. Correct the row or the rule, then `dispatcher retry ID`",
    ),
    "cancel_given_up": AlertRule(
        "error",
        "a retracted notification could not be cancelled at Novu",
        (),
        ("notification_id", "transaction_id"),
        "Novu refused the cancellation until the retry horizon ended",
        "Novu may still show or send it: cancel it in Novu by its transaction id",
    ),
    "notify_queue_fills": AlertRule(
        "error",
        "PostgreSQL's queue of NOTIFYs fills up",
        (),
        ("usage", "blocking_pid"),
        "the queue is at least 10 % full; once it is full, no transaction with a NOTIFY can commit",
        "If `blocking_pid` is set, end that session: `select pg_terminate_backend(PID)`",
    ),
    "dispatch_failed": unexpected_error("the claim loop", "It continues after a pause"),
    "sweep_failed": unexpected_error("a sweep", "The next one tries again"),
    "activity_failed": unexpected_error("a delivery", "Temporal retries it"),
    "retraction_failed": unexpected_error("the search for retractions", "The next one tries again"),
    "heartbeat_failed": unexpected_error("a worker's heartbeat", "The next one tries again"),
    "worker_check_failed": unexpected_error("the search for live workers", "The next one tries again"),
    "outbox_check_failed": unexpected_error("the check of the outbox", "The next one tries again"),
    "pruning_failed": unexpected_error("the pruning of the ledger", "The next walk tries again"),
    "database_poll_failed": unexpected_error("the database poll of web", "The next one tries again"),
    "numbers_failed": unexpected_error("the count for /status and /metrics", "The older numbers stay"),
    "library": AlertRule(
        "error",
        "{component} logged an error",
        ("component",),
        (),
        "a library, such as Temporal's or asyncio, logs an error",
        "Read its message in the log of that process",
    ),
    "ended": AlertRule(
        "fatal",
        "",
        (),
        (),
        "an error ends the process",
        "Follow the remedy in the message. If there is none, it is a bug: report it",
    ),
}
"""By log event. Only `ended` is no log event: `alerting` sends it."""


@dataclass(slots=True)
class AlertThrottle:
    """A token bucket for equal alerts, which counts the alerts that it suppressed."""

    tokens: float = BURST
    refilled_at: float = 0.0
    suppressed: int = 0
    event: dict[str, Any] = field(default_factory=dict[str, Any])
    """The last alert that was sent."""

    def take_token(self, now: float) -> bool:
        """Return whether an alert may be sent at `now`, in seconds of a monotonic clock."""
        self.tokens = min(BURST, self.tokens + (now - self.refilled_at) / REFILL_SECONDS)
        self.refilled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Alerts(logging.Handler):
    """Sends alerts to Sentry, from `open` to `close`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._client: Client | None = None
        self._node = ""
        self._throttles: dict[tuple[str, ...], AlertThrottle] = {}
        self._next_check_in = 0.0

    def open(self, client: "Client", node: str) -> None:
        """Read the log from now on; alerts carry `node` as a tag."""
        self._client, self._node, self._throttles, self._next_check_in = client, node, {}, 0.0
        logs.add_handler(self)

    def close(self) -> None:
        """Send the remaining counts, wait up to `FLUSH_SECONDS` for Sentry, and stop reading the log."""
        logging.getLogger().removeHandler(self)
        if self._client is not None:
            self._send_counts(at_once=True)
            self._client.close(timeout=FLUSH_SECONDS)
            self._client = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send an alert for a log record that has a rule."""
        message: Any = record.msg  # records of our own loggers still hold a mapping
        if isinstance(message, dict):
            given = message.get("exc_info")
            self._send_if_alert(message, sys.exc_info()[1] if given is True else given)
        elif record.levelno >= logging.ERROR and not record.name.startswith(SENTRY_LOGGERS):
            given = record.exc_info[1] if record.exc_info else None
            self._send_if_alert({"event": "library", "component": record.name}, given)

    def _send_if_alert(self, fields: Mapping[str, Any], error: BaseException | None) -> None:
        # A lost connection is reported by outage_began.
        lost = isinstance(error, CONNECTION_ERRORS) and not isinstance(error, LOCK_ERRORS)
        if fields["event"] in ALERT_RULES and not lost:
            self.send_alert(fields["event"], fields, error)

    def send_alert(self, name: str, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
        """Send one alert, or only count it if many equal ones were sent. Never raises."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # an error while sending must not reach the caller
                self._send_or_count(name, fields, error)

    def _send_or_count(self, name: str, given: Mapping[str, Any], error: BaseException | None) -> None:
        rule = ALERT_RULES[name]
        fields = {field: given.get(field) for field in (*rule.group_by, *rule.context_fields)}
        fingerprint = (
            name,
            *(normalized(str(fields[field])) for field in rule.group_by),
            *(error_code_and_function(error) if error else ()),
        )
        throttle = self._throttles.setdefault(fingerprint, AlertThrottle())
        if not throttle.take_token(time.monotonic()):
            throttle.suppressed += 1
            return
        throttle.event = {
            **({"message": rule.title.format_map(fields)} if rule.title else {}),
            **(sentry.exception_payload(error) if error else {}),
            "level": rule.level,
            "logger": given.get("component", "alerts"),
            "fingerprint": fingerprint,
            "tags": {"kind": name, "node": self._node} | {field: fields[field] for field in rule.group_by},
            "contexts": {"dispatcher": {field: fields[field] for field in rule.context_fields}},
        }
        self._send(throttle)

    def flush_counts(self, *, well: bool) -> None:
        """Send the counts of suppressed alerts after a sweep; if `well`, check in at the monitor (once a minute)."""
        self._send_counts(at_once=False)
        if self._client and well and time.monotonic() >= self._next_check_in:
            self._next_check_in = time.monotonic() + CHECK_IN_SECONDS
            self._capture(sentry.check_in())

    def _send_counts(self, *, at_once: bool) -> None:
        """Send the counts of suppressed alerts as soon as the throttle allows; that alert is one of those counted."""
        for throttle in list(self._throttles.values()):
            if throttle.suppressed and (at_once or throttle.take_token(time.monotonic())):
                throttle.suppressed -= 1
                self._send(throttle)

    def _send(self, throttle: AlertThrottle) -> None:
        """Send a throttle's last alert, with the number of equal ones suppressed since."""
        shown = throttle.event["contexts"]["dispatcher"] | {"withheld": throttle.suppressed}
        throttle.suppressed = 0
        self._capture({**throttle.event, "contexts": {"dispatcher": shown}})

    def _capture(self, event: Any) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # as in `send_alert`
                self._client.capture_event(event)


process_alerts = Alerts()
"""The instance of this process."""
flush_counts = process_alerts.flush_counts


@asynccontextmanager
async def alerting(settings: Settings, node: str) -> AsyncGenerator[None]:
    """Send alerts during the block if SENTRY_DSN is set; also one for the error that ends the block."""
    if settings.sentry_dsn is not None:
        try:
            process_alerts.open(sentry.build_client(settings, settings.sentry_dsn.get_secret_value()), node)
        except ValueError:  # alerts that do not work must not stop the dispatcher
            log.warning(
                "sentry_dsn_not_understood",
                effect="no alerts are sent",
                hint="copy SENTRY_DSN from the project's settings at Sentry",
            )
    try:
        yield
    except Exception as error:
        process_alerts.send_alert("ended", {}, error)
        raise
    finally:
        process_alerts.close()


def normalized(text: str) -> str:
    """Return `text` with numbers and quoted names replaced, which differ from row to row."""
    return re.sub(r"'[^']*'|\b\d+\b", "*", text)


def error_code_and_function(error: BaseException) -> tuple[str, str]:
    """Return the code of an error, and the innermost of our functions in its stack ("" if there is none)."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("dispatcher.")]
    return logs.error_code(error), ours[-1].f_code.co_qualname if ours else ""
