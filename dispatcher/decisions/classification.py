"""What Novu's answers mean. Pure: no I/O, no clock.

Only the HTTP status and the body count, never an exception's class: the SDK cannot parse Novu's usual 400 and 422.
"""

import json
from collections.abc import Mapping
from typing import Any

from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Recipient, RecipientState

REFUSED_STATUSES = {
    "trigger_not_active": "the Novu workflow is not active",
    "no_workflow_steps_defined": "the Novu workflow has no steps",
    "no_workflow_active_steps_defined": "the Novu workflow has no active steps",
    "no_tenant_found": "Novu does not know the tenant",
    "invalid_recipients": "Novu refused the recipient",
    "subscriber_id_missing": "Novu saw no subscriber id",
}
# A bulk item's `error` with such a text fails the same way every time.
PERMANENT_ERROR_PHRASES = ("workflow_not_found", " should ", " must ", "not found")
MAX_DETAIL_CHARS = 500
MAX_RETRY_AFTER_SECONDS = 600.0


def classify(status: int, headers: Mapping[str, str], body: bytes, events: int, *, bulk: bool) -> list[CallResult]:
    """Return one outcome per event of a call that was answered; `headers` has lower-case names."""
    replayed = headers.get("idempotency-replay", "").lower() == "true"
    parsed = parse_json(body)
    if 200 <= status < 300:
        return classify_success(parsed, events, bulk=bulk, replayed=replayed)
    return [classify_failure(status, headers, parsed, body, replayed=replayed)] * events


def classify_success(parsed: Any, events: int, *, bulk: bool, replayed: bool) -> list[CallResult]:
    """Return the outcomes of a 2xx answer: only `processed` is acceptance."""
    data = parsed.get("data") if isinstance(parsed, dict) else None
    items = data if bulk else [data]
    if not isinstance(items, list) or len(items) != events:
        return [CallResult(AnswerClass.UNKNOWN, "unreadable_answer", "Novu's answer could not be read")] * events
    return [classify_item(item, replayed=replayed) for item in items]


def classify_item(item: Any, *, replayed: bool) -> CallResult:
    """Return what one event's {acknowledged, status, error?} says."""
    status = item.get("status") if isinstance(item, dict) else None
    if status == "processed":
        return CallResult(AnswerClass.ACCEPTED, "processed", replayed=replayed)
    if isinstance(status, str) and status in REFUSED_STATUSES:
        return CallResult(AnswerClass.REFUSED, status, REFUSED_STATUSES[status], replayed=replayed)
    if status == "error":
        detail = message_text(item.get("error"))
        permanent = any(word in f" {detail} " for word in PERMANENT_ERROR_PHRASES)
        verdict = AnswerClass.REFUSED if permanent else AnswerClass.RETRY
        return CallResult(verdict, "error", detail or "Novu refused the event", new_epoch=True, replayed=replayed)
    return CallResult(AnswerClass.UNKNOWN, "unknown_status", f"Novu answered with the unknown status {status!r:.80}")


def classify_lookup(status: int, headers: Mapping[str, str], body: bytes, recipient: str) -> CallResult:
    """Return what the list of a transactionId's runs says about its recipient. RETRY: there is none."""
    parsed = parse_json(body)
    if status != 200:
        outcome = classify_failure(status, headers, parsed, body, replayed=False)
        if outcome.answer_class is AnswerClass.ACCOUNT_ERROR:
            return outcome
        return CallResult(AnswerClass.UNKNOWN, "look_up_failed", outcome.detail, outcome.retry_after)
    runs = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(runs, list):
        return CallResult(AnswerClass.UNKNOWN, "look_up_failed", "Novu's list of runs could not be read")
    if any(is_for(run, recipient) for run in runs):
        return CallResult(AnswerClass.ACCEPTED, "found")
    return CallResult(AnswerClass.RETRY, "not_found", "Novu has no run for the recipient")


def is_for(run: Any, recipient: str) -> bool:
    """Whether a run is the recipient's; one that names nobody is, for a transactionId has one recipient."""
    subscriber = run.get("subscriber") if isinstance(run, dict) else None
    return not isinstance(subscriber, dict) or subscriber.get("subscriberId") in (None, recipient)


def classify_failure(
    status: int, headers: Mapping[str, str], parsed: Any, body: bytes, *, replayed: bool
) -> CallResult:
    """Return what an error answer means for every event of its call."""
    message = parsed.get("message") if isinstance(parsed, dict) else None
    detail = f"HTTP {status}: " + (message_text(message) or sanitized(body[:MAX_DETAIL_CHARS].decode(errors="replace")))
    code = f"http_{status}"
    if status in (401, 402, 403):
        return CallResult(AnswerClass.ACCOUNT_ERROR, code, f"{detail} (check NOVU_SECRET_KEY)")
    if status == 404:  # a missing Novu workflow is a 422; this address has no trigger endpoint at all
        return CallResult(AnswerClass.ACCOUNT_ERROR, code, f"{detail} (check NOVU_API_URL)")
    if status == 422 and "different body" in detail:
        return CallResult(AnswerClass.UNKNOWN, "key_reused", detail)
    if status in (409, 429, 503):
        verdict = AnswerClass.RETRY if status == 503 else AnswerClass.THROTTLED
        return CallResult(verdict, code, detail, retry_after=retry_after(headers), new_epoch=replayed)
    if status == 408 or status >= 500 or status < 400:
        # An answer that echoes the key is stored under it: repeating the key would repeat the error for 24 hours.
        stored = status == 500 and "idempotency-key" in headers
        return CallResult(AnswerClass.UNKNOWN, code, detail, retry_after(headers), new_epoch=stored or replayed)
    return CallResult(AnswerClass.REFUSED, code, detail, new_epoch=True, replayed=replayed)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds, bounded, or None."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None


def parse_json(body: bytes) -> Any:
    """Return the JSON value of an answer, or None for anything that is not readable JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def message_text(message: Any) -> str:
    """Return Novu's message, which is a sentence, a list of them or an object, as one line."""
    if message is None:
        return ""
    if isinstance(message, list):
        return sanitized("; ".join(str(part) for part in message))
    return sanitized(message if isinstance(message, str) else json.dumps(message))


def sanitized(text: str) -> str:
    """Return `text` as one bounded line that PostgreSQL and a log can hold."""
    line = "".join(character if character.isprintable() else " " for character in text[:MAX_DETAIL_CHARS])
    return line.encode("utf-8", "replace").decode().strip()


def apply_result(recipient: Recipient, result: CallResult) -> None:
    """Change a recipient by what its call taught us.

    A call without effect leaves an earlier unknown one unknown: that one may still have had its effect.
    """
    if result.answer_class is AnswerClass.ACCEPTED:
        recipient.state = RecipientState.ACCEPTED
    elif result.answer_class is AnswerClass.REFUSED:
        recipient.state = RecipientState.REFUSED
    elif result.answer_class is AnswerClass.UNKNOWN or recipient.state in (
        RecipientState.UNKNOWN,
        RecipientState.SENDING,
    ):
        recipient.state = RecipientState.UNKNOWN
    recipient.outcome = result.code
    recipient.error = None if result.answer_class is AnswerClass.ACCEPTED else result.detail
    recipient.retry_after = result.retry_after or 0
    recipient.throttled = result.answer_class is AnswerClass.THROTTLED
    recipient.unsaved = True
    if result.new_epoch:
        recipient.epoch += 1
