"""One trigger for one recipient, and the meaning of Novu's answer to it."""

from dataclasses import dataclass
from enum import StrEnum

THROTTLED_CODES = ("http_409", "http_429")
"""Outcome codes of THROTTLED."""
UNCOUNTED_CODES = ("not_sent", *THROTTLED_CODES)
"""Outcome codes of calls on which Novu certainly did not work, so that the ledger does not count them."""


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One trigger of a Novu workflow for one recipient, as a request carries it."""

    workflow_key: str
    """Novu's identifier of the workflow, e.g. `invoice-paid`."""
    recipient: str
    """Novu's `subscriberId`."""
    transaction_id: str
    payload: str
    """JSON text, sent byte for byte."""
    overrides: str | None
    """JSON text, sent byte for byte; None: the request has no overrides."""


class AnswerClass(StrEnum):
    """The meaning of a call's answer for one recipient. The values are labels of a metric."""

    ACCEPTED = "accepted"  # Novu answered `processed`
    REFUSED = "refused"  # the same trigger would be refused again
    REFUSED_TOGETHER = "refused_together"  # a call of several events was refused as a whole: without effect, no verdict
    RETRY = "retry"  # certainly without effect
    THROTTLED = (
        "held"  # certainly without effect, and no failed try: Novu is busy with the same call or limits our rate
    )
    UNKNOWN = "ambiguous"  # Novu may have accepted the trigger
    ACCOUNT_ERROR = "systemic"  # concerns every row: key, quota or base URL


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of one call for one recipient."""

    answer_class: AnswerClass
    code: str
    """A short constant, e.g. `processed` or `http_503`, stored in the ledger."""
    detail: str = ""
    """One line of text for the operator; it may quote Novu's message."""
    retry_after: float | None = None
    """Seconds that Novu asked us to wait; None: it did not say."""
    new_epoch: bool = False
    """Whether the next call needs a new idempotency key, because Novu stores this error under the key for 24 h."""
    replayed: bool = False
    """Whether Novu returned the stored answer of an earlier call with the same key."""
    culprits: tuple[int, ...] = ()
    """REFUSED_TOGETHER: the events that the answer names as `events.N`, counted from 0."""
    suspected: tuple[str, ...] = ()
    """ACCOUNT_ERROR: the possible causes, the likeliest first."""
    from_novu: bool = True
    """ACCOUNT_ERROR: whether the answer has the shape of Novu's errors; otherwise a proxy may have sent it."""
