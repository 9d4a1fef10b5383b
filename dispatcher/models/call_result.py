"""One trigger for one recipient, and the meaning of Novu's answer to it."""

from dataclasses import dataclass
from enum import StrEnum


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
