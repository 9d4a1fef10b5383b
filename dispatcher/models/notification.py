"""A notification and its recipients as one run knows them, and a recipient whose trigger is to be cancelled."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf

from dispatcher.models.call_result import THROTTLED_CODES


class Status(StrEnum):
    """A notification's status in the outbox. The only place in Python that spells the labels.

    PENDING -> PROCESSING -> SENT | PARTIAL | FAILED; RETRACTED from any of them. An installed enum may lack PARTIAL:
    then FAILED is stored, and `error_details.outcome` says PARTIAL.
    """

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    SENT = "SENT"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    RETRACTED = "RETRACTED"

    @property
    def is_final(self) -> bool:
        """Whether a run has ended with this status: SENT, PARTIAL or FAILED."""
        return self is Status.SENT or self in UNSUCCESSFUL


UNSUCCESSFUL = (Status.FAILED, Status.PARTIAL)
"""The final statuses of rows that are retried, or are dead letters: Novu did not accept every recipient."""
FINAL_STATUSES = tuple(status for status in Status if status.is_final)


class RecipientState(StrEnum):
    """A recipient's state in the ledger."""

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


WITHDRAWN = "withdrawn"
"""Outcome of a recipient that the owner removed from the row before Novu accepted it. Its state is CANCELLED."""


@dataclass(slots=True)
class Recipient:
    """One recipient of one generation, as read from the ledger and changed by this run."""

    id: str
    """Novu's `subscriberId`."""
    ordinal: int
    """Position among the row's recipients, from 0."""
    transaction_id: str
    state: RecipientState = RecipientState.PLANNED
    epoch: int = 0
    """Version of the idempotency key. It grows when Novu has stored an error under the old key."""
    call_key: str | None = None
    """Idempotency key of the last call; None: no call was made yet."""
    call_ordinal: int | None = None
    """Position in the last call."""
    outcome: str | None = None
    """`CallResult.code` of the last answer."""
    error: str | None = None
    """`CallResult.detail` of the last answer, unless it was an acceptance."""
    retry_after: float = 0
    """Seconds to wait before the next call; set by this run."""
    throttled: bool = False
    """Whether that wait is caused by a rate limit or a call in progress, so that it costs no try."""
    unsaved: bool = False
    """Whether this run received an answer that the ledger does not have yet."""
    calls: int = 0
    """Calls in this generation that Novu may have worked on, when this run acquired the row."""
    call_hash: str | None = None
    """Hash of the body that the last call carried."""
    call_age: float = 0
    """Seconds from the last call until this run acquired the row."""
    first_call_age: float = 0
    """Seconds from the recipient's first call in this generation until this run acquired the row."""

    removed: bool = False
    """Whether the owner removed it from the row after a call: only an unknown outcome is still resolved."""

    @property
    def is_withdrawn(self) -> bool:
        """Whether it does not count for the row's status."""
        return self.state is RecipientState.CANCELLED and self.outcome == WITHDRAWN

    def withdraw(self) -> None:
        """Mark it as removed by the owner without a call that Novu may have accepted."""
        self.state, self.outcome, self.error, self.unsaved = RecipientState.CANCELLED, WITHDRAWN, None, True

    @property
    def is_final(self) -> bool:
        """Whether no further call is made for this recipient."""
        return self.state in (RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.CANCELLED)


@dataclass(frozen=True, slots=True)
class FinalStatus:
    """The status with which a run ends for a notification."""

    status: Status
    error_details: str
    """JSON text for the outbox column of this name."""
    first_transaction_id: str | None
    """The transactionId of the first accepted recipient; None: Novu accepted none."""
    retry_in: timedelta | None
    """Time until the automatic retry; None: there is none."""
    reason: str | None
    """Why not all recipients were accepted; None: all were."""


@dataclass(slots=True)
class Notification:
    """One acquired row of the outbox, with the data that a call to Novu needs."""

    id: int
    generation: int
    fence: int
    attempts: int
    """Runs of this generation so far, this one included."""
    since_first_claim: timedelta
    """Time since the first run of this generation was claimed."""
    enterprise: str = ""
    """Id of the row's enterprise; empty: it has none."""
    workflow_key: str = ""
    """Novu's identifier of the workflow."""
    payload: str = "{}"
    """JSON text."""
    overrides: str | None = None
    """JSON text; None: the row has none."""
    body_hash: str = ""
    """Hash of workflow key, payload and overrides."""
    validation_error: str | None = None
    """Why this row can never be sent as it is; None: it can be sent."""
    has_unread_recipients: bool = False
    """Whether the row's recipients were not read, but only those in the ledger: they are too many, or processes died of
    reading the row."""
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    final_status: FinalStatus | None = None
    """None until the run has ended for this row."""
    refused_alone: int = 0
    """Recipients whose call was refused after it was split off from a refused call; counted by this run's try."""
    call_recorded: bool = False
    """Whether this run's try recorded a call, which shows that it has read the row."""
    released: bool = False
    """Whether the run gave the row up: without counting the attempt, or because the table refuses its status."""
    locked: bool = False
    """Whether another transaction held a lock on the row when its final status was to be written."""
    age_seconds: float = inf
    """Seconds from the row's insert, or from its scheduled time if later, until this run acquired it."""
    acquired_at: float = 0.0
    """Reading of `time.monotonic()` when this run acquired the row."""
    first_attempt: bool = False
    """Whether this is the first run of the first generation and no call was made before."""

    @property
    def counted_recipients(self) -> list[Recipient]:
        """The recipients that decide the row's status: all but those that its owner removed in time."""
        return [recipient for recipient in self.recipients if not recipient.is_withdrawn]

    @property
    def has_unsettled_recipients(self) -> bool:
        """Whether another call can still change the outcome."""
        # From the end: calls are made in order, so while one is left it is found at once among many recipients.
        return any(not recipient.is_final for recipient in reversed(self.recipients))

    @property
    def most_calls(self) -> int:
        """The number of calls for the recipient that has most."""
        return max((recipient.calls for recipient in self.recipients), default=0)

    @property
    def is_throttled(self) -> bool:
        """Whether nothing but an answer 409 or 429 keeps the row from its end."""
        waiting = [recipient for recipient in self.recipients if not recipient.is_final]
        return bool(waiting) and all(
            each.state is not RecipientState.SENDING and each.outcome in THROTTLED_CODES for each in waiting
        )


@dataclass(slots=True)
class PendingCancel:
    """One recipient of a retracted notification whose trigger is to be cancelled at Novu."""

    notification_id: int
    generation: int
    recipient: str
    transaction_id: str
    state: str
    """A label of `RecipientState`."""
    lease_until: datetime
    """Until then no other process tries this cancel."""
    attempts: int
    """Failed tries so far."""
    call_age: timedelta
    """Time since the last call that triggered the recipient."""
    outcome: str = ""
    """`CallResult.code` of the last try."""
    error: str | None = None
    retry_in: timedelta | None = None
    """Time until the next try; None: this was the last one."""


@dataclass(frozen=True, slots=True)
class RowLimits:
    """Limits of what is read of one row; a row above one of them is refused. The defaults are those of the settings."""

    max_recipients: int = 100_000
    """DISPATCHER_MAX_RECIPIENTS."""
    max_payload_bytes: int = 512 * 1024
    """DISPATCHER_MAX_PAYLOAD, for payload and overrides together."""


DEFAULT_LIMITS = RowLimits()


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of the runs of one notification."""

    lease: timedelta
    """Duration of the lease that a run gets with its rows."""
    max_runs: int
    """Runs of one generation before the row becomes a dead letter."""
    retry_horizon: timedelta
    """No automatic retry is planned later than this after the first claim."""
    lookup_time: timedelta = timedelta(minutes=5)
    """Time that a Novu without idempotency gets to show the run of a call whose outcome is unknown."""
