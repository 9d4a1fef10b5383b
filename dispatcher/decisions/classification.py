"""What Novu's answers mean. Pure: no I/O, no clock.

Only the HTTP status and the body count, never an exception's class: the SDK cannot parse Novu's usual 400 and 422.
"""

import json
from collections.abc import Mapping
from typing import Any

from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import Recipient, State

REFUSING = {
    "trigger_not_active": "the Novu workflow is not active",
    "no_workflow_steps_defined": "the Novu workflow has no steps",
    "no_workflow_active_steps_defined": "the Novu workflow has no active steps",
    "no_tenant_found": "Novu does not know the tenant",
    "invalid_recipients": "Novu refused the recipient",
    "subscriber_id_missing": "Novu saw no subscriber id",
}
# A bulk item's `error` with such a text fails the same way every time.
PERMANENT_WORDS = ("workflow_not_found", " should ", " must ", "not found")
MAX_DETAIL = 500
MAX_RETRY_AFTER = 600.0


def classify(status: int, headers: Mapping[str, str], body: bytes, events: int, *, bulk: bool) -> list[Outcome]:
    """Return one outcome per event of a call that was answered; `headers` has lower-case names."""
    replayed = headers.get("idempotency-replay", "").lower() == "true"
    parsed = parse(body)
    if 200 <= status < 300:
        return successes(parsed, events, bulk=bulk, replayed=replayed)
    return [failure(status, headers, parsed, body, replayed=replayed)] * events


def successes(parsed: Any, events: int, *, bulk: bool, replayed: bool) -> list[Outcome]:
    """Return the outcomes of a 2xx answer: only `processed` is acceptance."""
    data = parsed.get("data") if isinstance(parsed, dict) else None
    items = data if bulk else [data]
    if not isinstance(items, list) or len(items) != events:
        return [Outcome(Verdict.AMBIGUOUS, "unreadable_answer", "Novu's answer could not be read")] * events
    return [item_outcome(item, replayed=replayed) for item in items]


def item_outcome(item: Any, *, replayed: bool) -> Outcome:
    """Return what one event's {acknowledged, status, error?} says."""
    status = item.get("status") if isinstance(item, dict) else None
    if status == "processed":
        return Outcome(Verdict.ACCEPTED, "processed", replayed=replayed)
    if isinstance(status, str) and status in REFUSING:
        return Outcome(Verdict.REFUSED, status, REFUSING[status], replayed=replayed)
    if status == "error":
        detail = words(item.get("error"))
        permanent = any(word in f" {detail} " for word in PERMANENT_WORDS)
        verdict = Verdict.REFUSED if permanent else Verdict.RETRY
        return Outcome(verdict, "error", detail or "Novu refused the event", new_epoch=True, replayed=replayed)
    return Outcome(Verdict.AMBIGUOUS, "unknown_status", f"Novu answered with the unknown status {status!r:.80}")


def looked_up(status: int, headers: Mapping[str, str], body: bytes, recipient: str) -> Outcome:
    """Return what the list of a transactionId's runs says about its recipient. RETRY: there is none."""
    parsed = parse(body)
    if status != 200:
        outcome = failure(status, headers, parsed, body, replayed=False)
        if outcome.verdict is Verdict.SYSTEMIC:
            return outcome
        return Outcome(Verdict.AMBIGUOUS, "look_up_failed", outcome.detail, outcome.retry_after)
    runs = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(runs, list):
        return Outcome(Verdict.AMBIGUOUS, "look_up_failed", "Novu's list of runs could not be read")
    if any(ours(run, recipient) for run in runs):
        return Outcome(Verdict.ACCEPTED, "found")
    return Outcome(Verdict.RETRY, "not_found", "Novu has no run for the recipient")


def ours(run: Any, recipient: str) -> bool:
    """Whether a run is the recipient's; one that names nobody is, for a transactionId has one recipient."""
    subscriber = run.get("subscriber") if isinstance(run, dict) else None
    return not isinstance(subscriber, dict) or subscriber.get("subscriberId") in (None, recipient)


def failure(status: int, headers: Mapping[str, str], parsed: Any, body: bytes, *, replayed: bool) -> Outcome:
    """Return what an error answer means for every event of its call."""
    message = parsed.get("message") if isinstance(parsed, dict) else None
    detail = f"HTTP {status}: " + (words(message) or cleaned(body[:MAX_DETAIL].decode(errors="replace")))
    code = f"http_{status}"
    if status in (401, 402, 403):
        return Outcome(Verdict.SYSTEMIC, code, f"{detail} (check NOVU_SECRET_KEY)")
    if status == 404:  # a missing Novu workflow is a 422; this address has no trigger endpoint at all
        return Outcome(Verdict.SYSTEMIC, code, f"{detail} (check NOVU_API_URL)")
    if status == 422 and "different body" in detail:
        return Outcome(Verdict.AMBIGUOUS, "key_reused", detail)
    if status in (409, 429, 503):
        verdict = Verdict.RETRY if status == 503 else Verdict.HELD
        return Outcome(verdict, code, detail, retry_after=retry_after(headers), new_epoch=replayed)
    if status == 408 or status >= 500 or status < 400:
        # An answer that echoes the key is stored under it: repeating the key would repeat the error for 24 hours.
        stored = status == 500 and "idempotency-key" in headers
        return Outcome(Verdict.AMBIGUOUS, code, detail, retry_after(headers), new_epoch=stored or replayed)
    return Outcome(Verdict.REFUSED, code, detail, new_epoch=True, replayed=replayed)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds, bounded, or None."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None


def parse(body: bytes) -> Any:
    """Return the JSON value of an answer, or None for anything that is not readable JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def words(message: Any) -> str:
    """Return Novu's message, which is a sentence, a list of them or an object, as one line."""
    if message is None:
        return ""
    if isinstance(message, list):
        return cleaned("; ".join(str(part) for part in message))
    return cleaned(message if isinstance(message, str) else json.dumps(message))


def cleaned(text: str) -> str:
    """Return `text` as one bounded line that PostgreSQL and a log can hold."""
    line = "".join(character if character.isprintable() else " " for character in text[:MAX_DETAIL])
    return line.encode("utf-8", "replace").decode().strip()


def apply(recipient: Recipient, outcome: Outcome) -> None:
    """Change a recipient by what its call taught us.

    A call without effect leaves an earlier unknown one unknown: that one may still have had its effect.
    """
    if outcome.verdict is Verdict.ACCEPTED:
        recipient.state = State.ACCEPTED
    elif outcome.verdict is Verdict.REFUSED:
        recipient.state = State.REFUSED
    elif outcome.verdict is Verdict.AMBIGUOUS or recipient.state in (State.UNKNOWN, State.SENDING):
        recipient.state = State.UNKNOWN
    recipient.outcome = outcome.code
    recipient.error = None if outcome.verdict is Verdict.ACCEPTED else outcome.detail
    recipient.retry_after = outcome.retry_after or 0
    recipient.held = outcome.verdict is Verdict.HELD
    recipient.unwritten = True
    if outcome.new_epoch:
        recipient.epoch += 1
