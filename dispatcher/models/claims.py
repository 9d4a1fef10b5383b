"""A claim: its limits, the rows that it claimed, and the workflows to start for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """One workflow to start for claimed rows."""

    workflow_id: str
    notification_ids: list[int]
    single: bool
    """Whether the workflow carries one row and starts on the first-try queue; batches start on the batch queue."""
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
    max_single_workflows: int
    """A claim of at most this many rows gives each row its own workflow; a larger one is cut into batches."""
    batch_size: int


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
    single: bool
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
    """Whether enough rows were due that suppressing NOTIFY costs less than receiving it."""
    is_full: bool
    """Whether the node has as many rows under lease as it may; then rows may still be due."""
