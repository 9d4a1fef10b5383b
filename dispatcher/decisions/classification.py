"""The meaning of Novu's answers. Pure: no I/O, no clock.

Decided from the HTTP status, headers and body, never from an exception's class: novu-py cannot parse the bodies that
Novu usually sends with 400 and 422.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Recipient, RecipientState

REFUSED_STATUSES = {
    "trigger_not_active": "the Novu workflow is not active",
    "no_workflow_steps_defined": "the Novu workflow has no steps",
    "no_workflow_active_steps_defined": "the Novu workflow has no active steps",
    "no_tenant_found": "Novu does not know the tenant",
    "invalid_recipients": "Novu refused the recipient",
    "subscriber_id_missing": "Novu found no subscriber id",
}
"""Statuses of a 2xx answer that mean a refusal, each with our text for it."""
PERMANENT_ERROR_PHRASES = ("workflow_not_found", " should ", " must ", "not found")
"""A bulk item whose `error` contains one of these fails the same way at every try."""
MAX_DETAIL_CHARS = 500
MAX_RETRY_AFTER_SECONDS = 600.0


def classify(status: int, headers: Mapping[str, str], body: bytes, events: int, *, bulk: bool) -> list[CallResult]:
    """Return one result for each event of an answered call, in order; `headers` has lower-case names."""
    replayed = headers.get("idempotency-replay", "").lower() == "true"
    parsed = parse_json(body)
    if 200 <= status < 300:
        return classify_success(parsed, events, bulk=bulk, replayed=replayed)
    failure = classify_failure(status, headers, parsed, body, replayed=replayed)
    return [failure if events == 1 else refused_together(failure, named_events(parsed, events))] * events


def refused_together(failure: CallResult, culprits: tuple[int, ...]) -> CallResult:
    """Return the result of a call of several events that failed: a refusal of the call is no verdict on its events."""
    if failure.answer_class is AnswerClass.REFUSED:
        return replace(failure, answer_class=AnswerClass.REFUSED_TOGETHER, culprits=culprits)
    return replace(failure, culprits=culprits) if failure.answer_class is AnswerClass.ACCOUNT_ERROR else failure


def named_events(parsed: Any, events: int) -> tuple[int, ...]:
    """Return the events of a refused call that the answer blames, as in `events.3.to must be …`."""
    numbers = {int(number) for number in re.findall(r"\bevents[.\[](\d{1,3})\b", " ".join(error_sentences(parsed)))}
    return tuple(sorted(number for number in numbers if number < events))


def error_sentences(parsed: Any) -> list[str]:
    """Return the sentences of an error answer: its message, and the messages of each of its `errors`."""
    message = parsed.get("message") if isinstance(parsed, dict) else None
    parts = message if isinstance(message, list) else [message]
    return [*(str(part) for part in parts), *field_sentences(parsed)]


def field_sentences(parsed: Any) -> list[str]:
    """Return the messages of each of an error answer's `errors`, where Novu 3.x names the fields that it refuses."""
    errors = parsed.get("errors") if isinstance(parsed, dict) else None
    parts = [part for part in errors.values() if isinstance(part, dict)] if isinstance(errors, dict) else []
    groups = [part.get("messages") for part in parts]
    return [each for group in groups if isinstance(group, list) for each in group if isinstance(each, str)]


def failure_text(parsed: Any) -> str:
    """Return Novu's words in an error answer, with those about its fields, as one line; empty if there are none."""
    message = message_text(parsed.get("message") if isinstance(parsed, dict) else None)
    return sanitized(
        "; ".join(filter(None, (message, *(each for each in field_sentences(parsed) if each not in message))))
    )


def call_refusal(result: CallResult, events: int) -> CallResult:
    """Return the meaning of an account error that no probe confirmed: only this one call is refused.

    A call of several events is split. A call of one event is tried again, and becomes a dead letter at last.
    """
    detail = result.detail.partition(" (check NOVU_")[0]
    if events > 1:  # other members, so another key
        return replace(result, answer_class=AnswerClass.REFUSED_TOGETHER, detail=detail, new_epoch=True)
    return replace(result, answer_class=AnswerClass.RETRY, detail=detail)


def account_suspects(status: int, *, from_novu: bool) -> tuple[str, ...]:
    """Return the possible causes of a 401, 402, 403 or 404, the likeliest first.

    Novu's own words speak about the account. Another page comes from something before Novu, or from another server.
    """
    setting = "NOVU_API_URL" if status == 404 else "NOVU_SECRET_KEY"
    account = ("the quota of the Novu account", setting) if status == 402 else (setting,)
    before = "a proxy or firewall before Novu"
    call = "the content of this call"
    return (*account, before, call) if from_novu else (before, *account, call)


def classify_success(parsed: Any, events: int, *, bulk: bool, replayed: bool) -> list[CallResult]:
    """Return one result for each event of a 2xx answer. Only the status `processed` means acceptance."""
    data = parsed.get("data") if isinstance(parsed, dict) else None
    items = data if bulk else [data]
    if not isinstance(items, list) or len(items) != events:
        return [CallResult(AnswerClass.UNKNOWN, "unreadable_answer", "Novu's answer could not be read")] * events
    return [classify_item(item, replayed=replayed) for item in items]


def classify_item(item: Any, *, replayed: bool) -> CallResult:
    """Return the meaning of one event's answer {acknowledged, status, error?}."""
    status = item.get("status") if isinstance(item, dict) else None
    if status == "processed":
        return CallResult(AnswerClass.ACCEPTED, "processed", replayed=replayed)
    if isinstance(status, str) and status in REFUSED_STATUSES:
        return CallResult(AnswerClass.REFUSED, status, REFUSED_STATUSES[status], replayed=replayed)
    if status == "error":
        detail = message_text(item.get("error"))
        permanent = any(phrase in f" {detail} " for phrase in PERMANENT_ERROR_PHRASES)
        answer_class = AnswerClass.REFUSED if permanent else AnswerClass.RETRY
        return CallResult(answer_class, "error", detail or "Novu refused the event", new_epoch=True, replayed=replayed)
    return CallResult(AnswerClass.UNKNOWN, "unknown_status", f"Novu answered with the unknown status {status!r:.80}")


def classify_lookup(status: int, headers: Mapping[str, str], body: bytes, recipient: str) -> CallResult:
    """Return the meaning of Novu's list of runs for one transactionId. ACCEPTED: the recipient has a run; RETRY: none.

    UNKNOWN: the list could not be read. `headers` has lower-case names.
    """
    parsed = parse_json(body)
    if status != 200:
        failure = classify_failure(status, headers, parsed, body, replayed=False)
        if failure.answer_class is AnswerClass.ACCOUNT_ERROR:
            return failure
        return CallResult(AnswerClass.UNKNOWN, "look_up_failed", failure.detail, failure.retry_after)
    runs = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(runs, list):
        return CallResult(AnswerClass.UNKNOWN, "look_up_failed", "Novu's list of runs could not be read")
    if any(is_for(run, recipient) for run in runs):
        return CallResult(AnswerClass.ACCEPTED, "found")
    return CallResult(AnswerClass.RETRY, "not_found", "Novu has no run for the recipient")


def is_for(run: Any, recipient: str) -> bool:
    """Whether a run of the looked-up transactionId is the recipient's.

    A run without a subscriber counts, because each of our transactionIds has one recipient.
    """
    subscriber = run.get("subscriber") if isinstance(run, dict) else None
    return not isinstance(subscriber, dict) or subscriber.get("subscriberId") in (None, recipient)


def classify_failure(
    status: int, headers: Mapping[str, str], parsed: Any, body: bytes, *, replayed: bool
) -> CallResult:
    """Return the meaning of an error answer, which is the same for every event of its call.

    Novu stores an error under its idempotency key for 24 h, so a repetition with that key would only return the error
    again. `new_epoch` is set where Novu has stored it.
    """
    detail = f"HTTP {status}: " + (failure_text(parsed) or sanitized(body[:MAX_DETAIL_CHARS].decode(errors="replace")))
    code = f"http_{status}"
    from_novu = isinstance(parsed, dict) and "statusCode" in parsed
    if status in (401, 402, 403, 404):  # 404: no trigger endpoint at this address; a missing Novu workflow is a 422
        suspected = account_suspects(status, from_novu=from_novu)
        text = f"{detail} (check {'NOVU_API_URL' if status == 404 else 'NOVU_SECRET_KEY'})"
        return CallResult(AnswerClass.ACCOUNT_ERROR, code, text, suspected=suspected, from_novu=from_novu)
    if status == 422 and "different body" in detail:
        return CallResult(AnswerClass.UNKNOWN, "key_reused", detail)
    # A platform's router answers 503, too, while Novu behind it still works on the call.
    if status in (409, 429) or (status == 503 and from_novu):
        answer_class = AnswerClass.RETRY if status == 503 else AnswerClass.THROTTLED
        return CallResult(answer_class, code, detail, retry_after=retry_after(headers), new_epoch=replayed)
    if status == 408 or status >= 500 or status < 400:
        # A 500 that echoes the key came from the request's handler and was stored; one without came from before it.
        stored = status == 500 and "idempotency-key" in headers
        return CallResult(AnswerClass.UNKNOWN, code, detail, retry_after(headers), new_epoch=stored or replayed)
    return CallResult(AnswerClass.REFUSED, code, detail, new_epoch=True, replayed=replayed)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the Retry-After header in seconds, at most `MAX_RETRY_AFTER_SECONDS`; None if missing or unreadable."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None


def parse_json(body: bytes) -> Any:
    """Return the JSON value of an answer's body, or None if the body is not readable JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def message_text(message: Any) -> str:
    """Return Novu's message, which is a string, a list of strings or an object, as one line."""
    if message is None:
        return ""
    try:
        if isinstance(message, list):
            return sanitized("; ".join(str(part) for part in message))
        return sanitized(message if isinstance(message, str) else json.dumps(message))
    except RecursionError:  # nested nearly as deeply as the parser accepts
        return ""


def sanitized(text: str) -> str:
    """Return `text` as one line of at most `MAX_DETAIL_CHARS` characters that PostgreSQL and a log can store."""
    line = "".join(character if character.isprintable() else " " for character in text[:MAX_DETAIL_CHARS])
    return line.encode("utf-8", "replace").decode().strip()


def apply_result(recipient: Recipient, result: CallResult) -> None:
    """Change a recipient by the result of its call.

    If this call had no effect but an earlier call's outcome is unknown, the recipient stays UNKNOWN: Novu may have
    accepted the earlier call.
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
