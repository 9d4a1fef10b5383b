"""What is broken in this process now and since when, by part; memory only.

The parts say `broken` and `whole` as often as they like. Only the change counts: one line in the log, one gauge, and
what readiness names. A part that was expected and has said nothing yet is why a process is still starting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher.telemetry import metrics
from dispatcher.telemetry.labels import COMPONENTS, Component
from dispatcher.telemetry.logs import get_logger
from dispatcher.telemetry.redaction import redact_text

MAX_REASON_CHARS = 300

log = get_logger("health")


@dataclass(slots=True)
class Outage:
    """A part that does not work: since when, and the latest reason."""

    since: datetime
    reason: str

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return (datetime.now(UTC) - self.since).total_seconds()


def one_line_reason(reason: str) -> str:
    """Return a reason in one line and without secrets."""
    return redact_text(" ".join(reason.split()))[:MAX_REASON_CHARS]


class ProcessHealth:
    """The condition of one process."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.outages: dict[Component, Outage] = {}
        self.not_reported_yet: set[Component] = set(COMPONENTS)
        """Parts that are expected and have not been heard of."""
        self.expected: frozenset[Component] = frozenset(COMPONENTS)
        self.started = False
        self.stopping = False

    def expect_components(self, parts: Iterable[Component]) -> None:
        """Say which parts this process has."""
        self.expected = frozenset(parts)
        self.not_reported_yet = set(self.expected)
        for part in self.expected:
            metrics.COMPONENT_FAILED.labels(part).set(0)

    def report_failure(self, part: Component, reason: str) -> None:
        """Say that a part does not work."""
        self._mark_reported(part)
        reason = one_line_reason(reason)
        if part in self.outages:
            self.outages[part].reason = reason
            return
        self.outages[part] = Outage(datetime.now(UTC), reason)
        metrics.COMPONENT_FAILED.labels(part).set(1)
        log.warning("outage_began", part=part, reason=reason)

    def report_ok(self, part: Component) -> None:
        """Say that a part works. Cheap enough to be said for every row."""
        if part in self.not_reported_yet:
            self._mark_reported(part)
        if part in self.outages:
            outage = self.outages.pop(part)
            metrics.COMPONENT_FAILED.labels(part).set(0)
            log.info("outage_over", part=part, seconds=round(outage.seconds, 1))

    @property
    def ready(self) -> bool:
        """Whether every part works."""
        return self.started and not self.outages and not self.stopping

    def state(self, part: Component) -> str:
        """Return a part's state in one word."""
        if part in self.outages:
            return "unhealthy"
        return "not_initialized" if part in self.not_reported_yet or part not in self.expected else "healthy"

    def _mark_reported(self, part: Component) -> None:
        self.not_reported_yet.discard(part)
        self.started = self.started or not self.not_reported_yet


process_health = ProcessHealth()
"""This process's own."""
report_failure = process_health.report_failure
report_ok = process_health.report_ok
