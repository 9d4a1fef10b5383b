"""Which components of this process have failed and since when. In memory only.

A component may report `ok` or a failure as often as it likes. Only a change has effects: one log line, the gauge
`dispatcher_part_broken`, and the answer of readiness. A process is starting until all its components have reported.
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
    """A failed component: since when, and the latest reason."""

    since: datetime
    reason: str

    @property
    def seconds(self) -> float:
        """Its duration so far."""
        return (datetime.now(UTC) - self.since).total_seconds()


def one_line_reason(reason: str) -> str:
    """Return `reason` in one line, without secrets, cut to `MAX_REASON_CHARS`."""
    return redact_text(" ".join(reason.split()))[:MAX_REASON_CHARS]


class ProcessHealth:
    """The health of one process, by component."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.outages: dict[Component, Outage] = {}
        self.not_reported_yet: set[Component] = set(COMPONENTS)
        """Expected components that have not reported yet."""
        self.expected: frozenset[Component] = frozenset(COMPONENTS)
        self.started = False
        self.stopping = False

    def expect_components(self, parts: Iterable[Component]) -> None:
        """Set the components that this process has. Called once, before they report."""
        self.expected = frozenset(parts)
        self.not_reported_yet = set(self.expected)
        for part in self.expected:
            metrics.COMPONENT_FAILED.labels(part).set(0)

    def report_failure(self, part: Component, reason: str) -> None:
        """Record that a component has failed, for `reason`."""
        self._mark_reported(part)
        reason = one_line_reason(reason)
        if part in self.outages:
            self.outages[part].reason = reason
            return
        self.outages[part] = Outage(datetime.now(UTC), reason)
        metrics.COMPONENT_FAILED.labels(part).set(1)
        log.warning("outage_began", part=part, reason=reason)

    def report_ok(self, part: Component) -> None:
        """Record that a component works. Cheap enough to be called for every row."""
        if part in self.not_reported_yet:
            self._mark_reported(part)
        if part in self.outages:
            outage = self.outages.pop(part)
            metrics.COMPONENT_FAILED.labels(part).set(0)
            log.info("outage_over", part=part, seconds=round(outage.seconds, 1))

    @property
    def ready(self) -> bool:
        """Whether the process has started, is not stopping, and no component has failed."""
        return self.started and not self.outages and not self.stopping

    def state(self, part: Component) -> str:
        """Return "healthy", "unhealthy" or "not_initialized", as XNovu's health answer names them."""
        if part in self.outages:
            return "unhealthy"
        return "not_initialized" if part in self.not_reported_yet or part not in self.expected else "healthy"

    def _mark_reported(self, part: Component) -> None:
        self.not_reported_yet.discard(part)
        self.started = self.started or not self.not_reported_yet


process_health = ProcessHealth()
"""The instance of this process."""
report_failure = process_health.report_failure
report_ok = process_health.report_ok
