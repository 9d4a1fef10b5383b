"""Sentry: what a person should hear of, each thing once. Off, and its library not even imported, without SENTRY_DSN.

Nobody reports anything here: this is a reader of our own log, which picks the events of `KINDS` and takes from each the
fields named there and nothing else. What Novu or an exception says stays in the log, for it can repeat a notification.
Sentry can be slow, silent or gone: alerts wait in a short queue of another thread, and what does not fit is lost.
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
from dispatcher.postgres.pool import CONNECTION_ERRORS
from dispatcher.telemetry import logs

if TYPE_CHECKING:
    from sentry_sdk import Client

BURST = 5
REFILL_SECONDS = 15.0
"""Of equal alerts five go out at once, then four a minute: with the last word at the end never more than ten."""
FLUSH_SECONDS = 2.0
"""How long an end waits for Sentry."""
CHECK_IN_SECONDS = 60.0
"""Sentry takes six a minute of one monitor, and drops the others silently."""
SENTRY_LOGGERS = ("sentry_sdk", "urllib3")

log = logs.get_logger("alerts")


class AlertRule(NamedTuple):
    """One kind of alert. Equal alerts have equal values of the fields `by`; `shown` are told besides."""

    level: str
    title: str
    group_by: tuple[str, ...]
    context_fields: tuple[str, ...]
    when: str
    remedy: str


def unexpected_error(what: str, goes_on: str) -> AlertRule:
    """Return the kind of an error that nobody expected."""
    return AlertRule("error", "", (), (), f"{what} raised what nobody expected", f"{goes_on}. Report it with its stack")


ALERT_RULES = {
    "outage_began": AlertRule(
        "error",
        "{part} is broken: {reason}",
        ("part",),
        ("reason",),
        "a part stops working: postgres, outbox, listener, temporal, novu or sweep; once, however often it is tried",
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
        "a notification will not be tried again",
        "`dispatcher show ID`, mend the cause, `dispatcher retry ID`",
    ),
    "cancel_given_up": AlertRule(
        "error",
        "a retracted notification could not be taken back at Novu",
        (),
        ("notification_id", "transaction_id"),
        "Novu refused to cancel until the retry horizon ended",
        "It may still be shown or sent: take it back in Novu by its transaction id",
    ),
    "notify_queue_fills": AlertRule(
        "error",
        "PostgreSQL's queue of notifications fills up",
        (),
        ("usage", "blocking_pid"),
        "the queue is a tenth full; once it is full no producer can commit",
        "End the session that blocks it, if it is named: `select pg_terminate_backend(pid)`",
    ),
    "dispatch_failed": unexpected_error("the door", "It goes on after a pause"),
    "sweep_failed": unexpected_error("a sweep", "The next one tries again"),
    "activity_failed": unexpected_error("a delivery", "Temporal tries it again"),
    "retraction_failed": unexpected_error("a look for retractions", "The next one tries again"),
    "numbers_failed": unexpected_error("counting for /status and /metrics", "Older numbers stay"),
    "library": AlertRule(
        "error",
        "{component} logged an error",
        ("component",),
        (),
        "a library, such as Temporal's or asyncio, logs an error",
        "Read its words in the log of that process",
    ),
    "ended": AlertRule(
        "fatal", "", (), (), "an error ends the process", "It names the remedy, or it is a bug: report it"
    ),
}
"""By the event of the log that is told; `ended` alone is in no log."""


@dataclass(slots=True)
class AlertThrottle:
    """Lets equal alerts through, and counts those that it does not."""

    tokens: float = BURST
    refilled_at: float = 0.0
    suppressed: int = 0
    event: dict[str, Any] = field(default_factory=dict[str, Any])
    """The last that got through."""

    def take_token(self, now: float) -> bool:
        """Return whether one may go out at `now`, in seconds of any clock."""
        self.tokens = min(BURST, self.tokens + (now - self.refilled_at) / REFILL_SECONDS)
        self.refilled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Alerts(logging.Handler):
    """Tells Sentry, from `open` to `close`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._client: Client | None = None
        self._node = ""
        self._throttles: dict[tuple[str, ...], AlertThrottle] = {}
        self._next_check_in = 0.0

    def open(self, client: "Client", node: str) -> None:
        """Read the log from now on, and tell as `node`."""
        self._client, self._node, self._throttles, self._next_check_in = client, node, {}, 0.0
        logs.add_handler(self)

    def close(self) -> None:
        """Tell the last, wait a moment for Sentry to take it, and tell no more."""
        logging.getLogger().removeHandler(self)
        if self._client is not None:
            self._send_counts(at_once=True)
            self._client.close(timeout=FLUSH_SECONDS)
            self._client = None

    def emit(self, record: logging.LogRecord) -> None:
        """Tell what a line of the log says, if it is of one of the kinds."""
        message: Any = record.msg  # ours are still a mapping
        if isinstance(message, dict):
            given = message.get("exc_info")
            self._send_if_alert(message, sys.exc_info()[1] if given is True else given)
        elif record.levelno >= logging.ERROR and not record.name.startswith(SENTRY_LOGGERS):
            given = record.exc_info[1] if record.exc_info else None
            self._send_if_alert({"event": "library", "component": record.name}, given)

    def _send_if_alert(self, fields: Mapping[str, Any], error: BaseException | None) -> None:
        if fields["event"] in ALERT_RULES and not isinstance(
            error, CONNECTION_ERRORS
        ):  # that is an outage, told as one
            self.send_alert(fields["event"], fields, error)

    def send_alert(self, name: str, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
        """Tell one alert, or only count it after many equal ones. Never raises."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # an error in telling must not become the program's
                self._send_or_count(name, fields, error)

    def _send_or_count(self, name: str, given: Mapping[str, Any], error: BaseException | None) -> None:
        rule = ALERT_RULES[name]
        fields = {field: given.get(field) for field in (*rule.group_by, *rule.context_fields)}
        fingerprint = (
            name,
            *(normalized(str(fields[field])) for field in rule.group_by),
            *(error_location(error) if error else ()),
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
        """Tell what was only counted, now that a sweep ended; if `well`, tell the monitor too, about once a minute."""
        self._send_counts(at_once=False)
        if self._client and well and time.monotonic() >= self._next_check_in:
            self._next_check_in = time.monotonic() + CHECK_IN_SECONDS
            self._capture(sentry.check_in())

    def _send_counts(self, *, at_once: bool) -> None:
        """Tell what was only counted, as soon as it may go out; that alert stands for one of them itself."""
        for throttle in list(self._throttles.values()):
            if throttle.suppressed and (at_once or throttle.take_token(time.monotonic())):
                throttle.suppressed -= 1
                self._send(throttle)

    def _send(self, throttle: AlertThrottle) -> None:
        """Send a bucket's last alert, with how many equal ones were only counted since."""
        shown = throttle.event["contexts"]["dispatcher"] | {"withheld": throttle.suppressed}
        throttle.suppressed = 0
        self._capture({**throttle.event, "contexts": {"dispatcher": shown}})

    def _capture(self, event: Any) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # as in `tell`
                self._client.capture_event(event)


process_alerts = Alerts()
"""This process's own."""
flush_counts = process_alerts.flush_counts


@asynccontextmanager
async def alerting(settings: Settings, node: str) -> AsyncGenerator[None]:
    """Tell Sentry for the block, if SENTRY_DSN says where it is; also of the error that ends the block."""
    if settings.sentry_dsn is not None:
        try:
            process_alerts.open(sentry.build_client(settings, settings.sentry_dsn.get_secret_value()), node)
        except ValueError:  # an alarm that does not work must not stop what it watches
            log.warning("sentry_dsn_not_understood", effect="no alerts", hint="SENTRY_DSN: copy it from Sentry")
    try:
        yield
    except Exception as error:
        process_alerts.send_alert("ended", {}, error)
        raise
    finally:
        process_alerts.close()


def normalized(text: str) -> str:
    """Return `text` without what differs from row to row: numbers and quoted names."""
    return re.sub(r"'[^']*'|\b\d+\b", "*", text)


def error_location(error: BaseException) -> tuple[str, str]:
    """Return what an error is, and the innermost function of ours that it came through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("dispatcher.")]
    return logs.error_code(error), ours[-1].f_code.co_qualname if ours else ""
