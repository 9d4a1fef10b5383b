"""A notification and its recipients, as one run holds them, and a recipient whose trigger is to be cancelled."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf


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
        return self in (Status.SENT, Status.PARTIAL, Status.FAILED)


class RecipientState(StrEnum):
    """A recipient's state in the ledger."""

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Recipient:
    """One recipient of one generation, as the ledger knows it and as this run changes it."""

    id: str
    ordinal: int
    transaction_id: str
    state: RecipientState = RecipientState.PLANNED
    epoch: int = 0
    call_key: str | None = None
    call_ordinal: int | None = None
    outcome: str | None = None
    error: str | None = None
    retry_after: float = 0
    """Seconds to wait before the next call, as this run learned."""
    throttled: bool = False
    """Whether that wait is nobody's failure, so that it spends no try."""
    unsaved: bool = False
    """Whether this run heard something of which the ledger does not know yet."""
    call_hash: str | None = None
    call_age: float = 0
    first_call_age: float = 0
    """What the last call carried, and how many seconds ago it and the first one left, when the run took the row."""

    @property
    def is_final(self) -> bool:
        """Whether no further call is made for this recipient."""
        return self.state in (RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.CANCELLED)


@dataclass(frozen=True, slots=True)
class FinalStatus:
    """The status a notification ends its run with. `wait`: until the automatic retry; None: there is none."""

    status: str
    error_details: str
    first_transaction_id: str | None
    retry_in: timedelta | None
    reason: str | None


@dataclass(slots=True)
class Notification:
    """One row a run holds, with what a call to Novu needs. `refusal`: why it can never be sent as it is."""

    id: int
    generation: int
    fence: int
    attempts: int
    since_first_claim: timedelta
    workflow_key: str = ""
    payload: str = "{}"
    overrides: str | None = None
    body_hash: str = ""
    validation_error: str | None = None
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    final_status: FinalStatus | None = None
    released: bool = False
    age_seconds: float = inf
    """Seconds from its insert, or the time it was scheduled for, until this run took it."""
    acquired_at: float = field(default_factory=time.monotonic)
    """When that was, by this process's clock."""
    first_attempt: bool = False
    """Whether this is the first sending, and no call was made before."""

    @property
    def has_unsettled_recipients(self) -> bool:
        """Whether another call could still change something."""
        return any(not recipient.is_final for recipient in self.recipients)


@dataclass(slots=True)
class PendingCancel:
    """One recipient of a retracted notification, to be taken back at Novu; nobody else does so until `until`.

    `wait`: until the next try; None: it is over.
    """

    notification_id: int
    generation: int
    recipient: str
    transaction_id: str
    state: str
    lease_until: datetime
    attempts: int
    call_age: timedelta
    outcome: str = ""
    error: str | None = None
    retry_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How patient a run is."""

    lease: timedelta
    max_runs: int
    retry_horizon: timedelta
