"""What travels between the parts: small frozen records, safe for Temporal's sandbox and its histories (ids only)."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf
from typing import Any

CHANNEL = "dispatcher"
"""The NOTIFY channel of the triggers in sql/. A notification carries no data."""

WORKFLOW = "NotificationDelivery"
DELIVER = "deliver"
GIVE_UP = "give_up"
"""Names under which Temporal knows the workflow and its activities."""

UNSETTLED = "Unsettled"
HELD = "Held"
"""The types of what `deliver` raises: another try can settle more; or it only has to wait, which spends no try."""

LANE_SUFFIX = "-lane"

MOST_IDS = 1000
"""More than any version of ours ever put into one workflow."""


def lane_of(task_queue: str) -> str:
    """Return the queue of batches and retries that stands beside `task_queue`."""
    return task_queue if task_queue.endswith(LANE_SUFFIX) else task_queue + LANE_SUFFIX


@dataclass(frozen=True, slots=True)
class Batch:
    """A workflow's input: which notifications it carries."""

    notification_ids: list[int]

    @classmethod
    def read(cls, given: Any) -> "Batch":
        """Return the batch that `given` is; ValueError for anything else: others may start workflows too."""
        ids = given.get("notification_ids") if isinstance(given, dict) else None
        if not isinstance(ids, list) or len(ids) > MOST_IDS:
            raise ValueError("the input is no batch of notifications")
        if any(type(each) is not int or not -(2**63) <= each < 2**63 for each in ids):
            raise ValueError("the input holds what cannot be the id of a notification")
        return cls(ids)


@dataclass(frozen=True, slots=True)
class Tally:
    """A workflow's result: how its notifications ended. What is in none of the counts was handed back."""

    sent: int = 0
    partial: int = 0
    failed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.sent + other.sent, self.partial + other.partial, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class Start:
    """One workflow to start for what a claim took."""

    workflow_id: str
    notification_ids: list[int]
    solo: bool
    enterprise: str = ""


@dataclass(frozen=True, slots=True)
class ClaimSizes:
    """How much one claim takes: `limit` rows, never more than `capacity` in flight for the node; up to `solo_max` rows
    in all get a workflow each, more are cut into batches of `batch_size`."""

    limit: int
    capacity: int
    solo_max: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took, as workflows to start, and how many rows there was room for."""

    room: int
    starts: list[Start]

    @property
    def rows(self) -> int:
        """How many rows were taken; fewer than `room` means that nothing else is due."""
        return sum(len(start.notification_ids) for start in self.starts)


@dataclass(frozen=True, slots=True)
class Late:
    """Rows whose lease ran out, with the workflow that carried them."""

    workflow_id: str
    solo: bool
    ids: list[int]
    fences: list[int]


class State(StrEnum):
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
    state: State = State.PLANNED
    epoch: int = 0
    call_key: str | None = None
    call_ordinal: int | None = None
    outcome: str | None = None
    error: str | None = None
    retry_after: float = 0
    """Seconds to wait before the next call, as this run learned."""
    held: bool = False
    """Whether that wait is nobody's failure, so that it spends no try."""
    unwritten: bool = False
    """Whether this run heard something of which the ledger does not know yet."""
    call_hash: str | None = None
    call_age: float = 0
    first_call_age: float = 0
    """What the last call carried, and how many seconds ago it and the first one left, when the run took the row."""

    @property
    def settled(self) -> bool:
        """Whether no further call is made for this recipient."""
        return self.state in (State.ACCEPTED, State.REFUSED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The status a notification ends its run with. `wait`: until the automatic retry; None: there is none."""

    status: str
    details: str
    first_transaction: str | None
    wait: timedelta | None
    reason: str | None


@dataclass(slots=True)
class Notification:
    """One row a run holds, with what a call to Novu needs. `refusal`: why it can never be sent as it is."""

    id: int
    generation: int
    fence: int
    attempts: int
    age: timedelta
    workflow_key: str = ""
    payload: str = "{}"
    overrides: str | None = None
    body_hash: str = ""
    refusal: str | None = None
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    conclusion: Conclusion | None = None
    handed_back: bool = False
    waited: float = inf
    """Seconds from its insert, or the time it was scheduled for, until this run took it."""
    taken: float = field(default_factory=time.monotonic)
    """When that was, by this process's clock."""
    fresh: bool = False
    """Whether this is the first sending, and no call was made before."""

    @property
    def unsettled(self) -> bool:
        """Whether another call could still change something."""
        return any(not recipient.settled for recipient in self.recipients)


@dataclass(frozen=True, slots=True)
class Event:
    """One trigger for one recipient, ready for the wire: `payload` and `overrides` are JSON text, sent as they are."""

    workflow_key: str
    recipient: str
    transaction_id: str
    payload: str
    overrides: str | None


class Verdict(StrEnum):
    """What a call's answer means for one recipient."""

    ACCEPTED = "accepted"  # Novu answered `processed`
    REFUSED = "refused"  # no repetition can help
    RETRY = "retry"  # surely without effect
    HELD = "held"  # surely without effect, and no failure: Novu is busy with the same call, or limits us
    AMBIGUOUS = "ambiguous"  # may have had its effect
    SYSTEMIC = "systemic"  # not this row's fault: key, quota, base URL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What we learned about one recipient. `new_epoch`: Novu stored this error under the key for 24 hours."""

    verdict: Verdict
    code: str
    detail: str = ""
    retry_after: float | None = None
    new_epoch: bool = False
    replayed: bool = False


@dataclass(slots=True)
class Cancel:
    """One recipient of a retracted notification, to be taken back at Novu; nobody else does so until `until`.

    `wait`: until the next try; None: it is over.
    """

    notification_id: int
    generation: int
    recipient: str
    transaction_id: str
    state: str
    until: datetime
    tries: int
    call_age: timedelta
    outcome: str = ""
    error: str | None = None
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a run is."""

    lease: timedelta
    max_runs: int
    retry_horizon: timedelta
