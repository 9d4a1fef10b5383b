"""The rows that the operator's queries return: their keys and types.

The dictionaries are PostgreSQL's JSON, because every row must be shown, also one with odd values: times are ISO 8601
text, and may be `infinity` or lie outside Python's calendar. `status` is text, because a table may hold a label that
`Status` does not know. Users see the keys in the output of `--json`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


class RowSummary(TypedDict):
    """The columns that every view of a notification has. The last nine come from the ledger, so they may be None."""

    id: int
    status: str
    outcome: str | None
    workflow: str | None
    enterprise: str | None
    recipients: int | None
    generation: int | None
    attempts: int | None
    claimed_at: str | None
    settled_at: str | None
    next_attempt_at: str | None
    dead_lettered_at: str | None
    error: str | None


class ListedRow(RowSummary):
    """A row of `list_rows`. `name` is None where this role may not read the column."""

    name: str | None
    created_at: str
    scheduled_for: str | None


class RowDetails(ListedRow):
    """A row of `find_row`: everything that decides the next step, as of `now`.

    `accepted`, `unknown`: recipients of the last generation that Novu accepted or whose outcome is not known.
    `pruned`: whether the ledger has forgotten them, because they are older than its retention.
    `held`: whether its lease is valid. `to_take_back`: recipients whose trigger is still to be cancelled at Novu.
    `refused`: whether a rule of the table refuses our write to the row as it is now; `error` has PostgreSQL's words.
    `not_run_yet`: whether Novu has not run one of these triggers yet.
    """

    publish_status: str
    deactivated: bool
    transaction_id: str | None
    retracted_at: str | None
    due: bool
    retraction_noticed: bool
    pruned: bool
    accepted: int
    unknown: int
    novu_transaction_id: str | None
    temporal_workflow_id: str | None
    fence: int | None
    lease_owner: str | None
    lease_until: str | None
    held: bool
    first_claimed_at: str | None
    refused: bool
    to_take_back: int
    not_run_yet: bool
    nodes_alive: int
    now: str


class WatchedRow(RowSummary):
    """A row of `recent_changes`, read at the time `at`. `matches`: whether it fulfils the filter."""

    matches: bool
    at: str


class RecipientRow(TypedDict):
    """One recipient of one generation, from the ledger."""

    generation: int
    recipient: str
    state: str
    attempts: int
    first_called_at: str | None
    last_called_at: str | None
    outcome: str | None
    error: str | None
    transaction_id: str
    cancel_at: str | None


class NodeRow(TypedDict):
    """One dispatcher or worker. `alive`: seen within `NODE_TTL`. `awake`: it polls, so commits need not notify it."""

    id: str
    role: str
    host: str
    version: str
    mode: str
    started_at: str
    seen_at: str
    last_sweep_at: str | None
    in_flight: int
    alive: bool
    awake: bool


class InstallationHealth(TypedDict):
    """The result of `read_health`: nodes, triggers (name to enabled), and how many rows wait for which step."""

    now: str
    nodes: list[NodeRow]
    triggers: dict[str, bool]
    leases_run_out: int
    unheld: int
    retractions_to_notice: int
    refused: int
    to_take_back: int
    retries_waiting: int
    retries_due: int
    next_due: str | None


class StatusCounts(TypedDict):
    """The result of `count_by_status`: rows by status. Without `counts_exact` they are estimates, and `due` is a
    lower bound and `scheduled` None."""

    counts: dict[str, int]
    counts_exact: bool
    due: int
    scheduled: int | None
    oldest_due_seconds: float | None


class TrialProgress(TypedDict):
    """The result of `test_progress`. `claimed`, `called`, `settled`: seconds after the notification was written."""

    status: str
    error: str | None
    lease_owner: str | None
    workflow_id: str | None
    claimed: float | None
    called: float | None
    settled: float | None
    next_attempt_at: str | None
    nodes_alive: int


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row that a change would meet.

    `accepted`, `unknown`: recipients of its last generation. `closed`: once PENDING it would not be eligible.
    `fence`: how often it was acquired; a change skips a row whose fence grew since the preview. `refused`: whether a
    rule of the table refused our last write to it. `pruned`: the ledger has forgotten its recipients, so `accepted`
    and `unknown` are 0.
    """

    id: int
    status: str
    retraction_noticed: bool
    retry_waits: bool
    closed: bool
    recipients: int
    accepted: int
    unknown: int
    fence: int | None
    refused: bool = False
    pruned: bool = False


@dataclass(frozen=True, slots=True)
class TrialNotification:
    """A notification that `insert_test` wrote at the database's time `since`."""

    id: int
    enterprise: str | None
    since: datetime
