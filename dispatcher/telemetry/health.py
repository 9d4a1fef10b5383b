"""What is broken in this process now and since when, by part; memory only.

The parts say `broken` and `whole` as often as they like. Only the change counts: one line in the log, one gauge, and
what readiness names. A part that was expected and has said nothing yet is why a process is still starting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from dispatcher.telemetry import metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.telemetry.redaction import redact_text

Part = Literal["postgres", "outbox", "listener", "temporal", "novu", "sweep"]
PARTS: tuple[Part, ...] = ("postgres", "outbox", "listener", "temporal", "novu", "sweep")

MOST_REASON = 300

log = get_logger("condition")


@dataclass(slots=True)
class Outage:
    """A part that does not work: since when, and the latest reason."""

    since: datetime
    reason: str

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return (datetime.now(UTC) - self.since).total_seconds()


def one_line(reason: str) -> str:
    """Return a reason in one line and without secrets."""
    return redact_text(" ".join(reason.split()))[:MOST_REASON]


class Condition:
    """The condition of one process."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.outages: dict[Part, Outage] = {}
        self.awaited: set[Part] = set(PARTS)
        """Parts that are expected and have not been heard of."""
        self.expected: frozenset[Part] = frozenset(PARTS)
        self.started = False
        self.stopping = False

    def expect(self, parts: Iterable[Part]) -> None:
        """Say which parts this process has."""
        self.expected = frozenset(parts)
        self.awaited = set(self.expected)
        for part in self.expected:
            metrics.BROKEN.labels(part).set(0)

    def broken(self, part: Part, reason: str) -> None:
        """Say that a part does not work."""
        self._heard_of(part)
        reason = one_line(reason)
        if part in self.outages:
            self.outages[part].reason = reason
            return
        self.outages[part] = Outage(datetime.now(UTC), reason)
        metrics.BROKEN.labels(part).set(1)
        log.warning("outage_began", part=part, reason=reason)

    def whole(self, part: Part) -> None:
        """Say that a part works. Cheap enough to be said for every row."""
        if part in self.awaited:
            self._heard_of(part)
        if part in self.outages:
            outage = self.outages.pop(part)
            metrics.BROKEN.labels(part).set(0)
            log.info("outage_over", part=part, seconds=round(outage.seconds, 1))

    @property
    def ready(self) -> bool:
        """Whether every part works."""
        return self.started and not self.outages and not self.stopping

    def state(self, part: Part) -> str:
        """Return a part's state in one word."""
        if part in self.outages:
            return "unhealthy"
        return "not_initialized" if part in self.awaited or part not in self.expected else "healthy"

    def _heard_of(self, part: Part) -> None:
        self.awaited.discard(part)
        self.started = self.started or not self.awaited


here = Condition()
"""This process's own."""
broken = here.broken
whole = here.whole
