"""A claim: its limits, the rows that it claimed, and the workflows to start for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """One workflow to start for claimed rows."""

    workflow_id: str
    notification_ids: list[int]
    first_try: bool
    """Whether the workflow starts on the first-try queue, because it is small; larger ones start on the batch queue."""
    enterprise: str = ""
    """The rows' enterprise, Temporal's fairness key. Empty if they are of several, or if they are started again because
    their lease expired."""


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """Limits of one claim, in rows."""

    limit: int
    """At most this many rows are claimed."""
    capacity: int
    """The node never has more rows under lease than this."""
    batch_size: int
    """At most this many rows share a workflow. A claim of one row, or a size of 1, gives each row its own."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The workflows to start for claimed rows."""

    free_capacity: int
    """The number of rows for which the claim had capacity."""
    starts: list[WorkflowStart]

    @property
    def rows(self) -> int:
        """The number of claimed rows. If it is below `free_capacity`, no other row is due."""
        return sum(len(start.notification_ids) for start in self.starts)


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """The rows of one workflow whose lease expired."""

    workflow_id: str
    first_try: bool
    """Whether the workflow starts again on the first-try queue: it carries one row and is no batch."""
    ids: list[int]
    fences: list[int]
    """The rows' fences, in the order of `ids`."""


@dataclass(frozen=True, slots=True)
class ForeignStatus:
    """A row whose generation has an outcome, and on which another program wrote another status."""

    notification_id: int
    fence: int
    theirs: str
    """The label in the row."""
    ours: str
    """The label of the outcome."""
    was_put_back: bool
    """Whether our status was put back before in this generation."""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The result of claiming until nothing more is due or the node is full."""

    rows: int
    backlog: bool
    """Whether rows become due faster than runs end, so that suppressing NOTIFY costs less than receiving it."""
    is_full: bool
    """Whether the node has as many rows under lease as it may; then rows may still be due."""
