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

    def expect_components(self, components: Iterable[Component]) -> None:
        """Set the components that this process has. Called once, before they report."""
        self.expected = frozenset(components)
        self.not_reported_yet = set(self.expected)
        for component in self.expected:
            metrics.COMPONENT_FAILED.labels(component).set(0)

    def report_failure(self, component: Component, reason: str) -> None:
        """Record that a component has failed, for `reason`."""
        self._mark_reported(component)
        reason = one_line_reason(reason)
        if component in self.outages:
            self.outages[component].reason = reason
            return
        self.outages[component] = Outage(datetime.now(UTC), reason)
        metrics.COMPONENT_FAILED.labels(component).set(1)
        log.warning("outage_began", part=component, reason=reason)

    def report_ok(self, component: Component) -> None:
        """Record that a component works. Cheap enough to be called for every row."""
        if component in self.not_reported_yet:
            self._mark_reported(component)
        if component in self.outages:
            outage = self.outages.pop(component)
            metrics.COMPONENT_FAILED.labels(component).set(0)
            log.info("outage_over", part=component, seconds=round(outage.seconds, 1))

    @property
    def ready(self) -> bool:
        """Whether the process has started, is not stopping, and no component has failed."""
        return self.started and not self.outages and not self.stopping

    def state(self, component: Component) -> str:
        """Return "healthy", "unhealthy" or "not_initialized", as XNovu's health answer names them."""
        if component in self.outages:
            return "unhealthy"
        return "not_initialized" if component in self.not_reported_yet or component not in self.expected else "healthy"

    def _mark_reported(self, component: Component) -> None:
        self.not_reported_yet.discard(component)
        self.started = self.started or not self.not_reported_yet


process_health = ProcessHealth()
"""The instance of this process."""
report_failure = process_health.report_failure
report_ok = process_health.report_ok
