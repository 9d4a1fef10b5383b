"""One trigger for one recipient, and the meaning of Novu's answer to it."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One trigger for one recipient, ready for the wire: `payload` and `overrides` are JSON text, sent as they are."""

    workflow_key: str
    recipient: str
    transaction_id: str
    payload: str
    overrides: str | None


class AnswerClass(StrEnum):
    """What a call's answer means for one recipient."""

    ACCEPTED = "accepted"  # Novu answered `processed`
    REFUSED = "refused"  # no repetition can help
    RETRY = "retry"  # surely without effect
    THROTTLED = "held"  # surely without effect, and no failure: Novu is busy with the same call, or limits us
    UNKNOWN = "ambiguous"  # may have had its effect
    ACCOUNT_ERROR = "systemic"  # not this row's fault: key, quota, base URL


@dataclass(frozen=True, slots=True)
class CallResult:
    """What we learned about one recipient. `new_epoch`: Novu stored this error under the key for 24 hours."""

    answer_class: AnswerClass
    code: str
    detail: str = ""
    retry_after: float | None = None
    new_epoch: bool = False
    replayed: bool = False
