"""A claim: its limits, the rows that it took, and the workflows to start for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """One workflow to start for what a claim took."""

    workflow_id: str
    notification_ids: list[int]
    single: bool
    enterprise: str = ""


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """How much one claim takes: `limit` rows, never more than `capacity` in flight for the node; up to `solo_max` rows
    in all get a workflow each, more are cut into batches of `batch_size`."""

    limit: int
    capacity: int
    max_single_workflows: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took, as workflows to start, and how many rows there was room for."""

    free_capacity: int
    starts: list[WorkflowStart]

    @property
    def rows(self) -> int:
        """How many rows were taken; fewer than `room` means that nothing else is due."""
        return sum(len(start.notification_ids) for start in self.starts)


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """Rows whose lease ran out, with the workflow that carried them."""

    workflow_id: str
    single: bool
    ids: list[int]
    fences: list[int]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The result of claiming until nothing more is due or the node is full.

    `backlog`: so many rows were due that suppressing NOTIFY costs less than receiving it. `is_full`: the node holds as
    many rows as it may, so rows may still be due.
    """

    rows: int
    backlog: bool
    is_full: bool
