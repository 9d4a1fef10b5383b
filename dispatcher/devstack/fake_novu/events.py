"""Reads trigger bodies: the events they contain, and the sentences of Novu's validation.

Reading never fails, because the request log needs the ids of refused requests too; the checks are separate. 2.0.0
accepts a recipient without an id, and loses it later in the worker; 3.19.0 refuses the call.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from dispatcher.devstack.fake_novu.answers import Refusal

MAX_EVENTS = 100
TO_RULE = (
    "must be a non-empty subscriberId string, an object with a non-empty subscriberId, a topic object with a non-empty"
    " topicKey, or a non-empty array of those"
)
EVERYONE = "*"


class FakeRecipient(NamedTuple):
    """One entry of `to`; `fields` is its inline object, if it has one."""

    name: str
    fields: dict[str, Any] | None = None
    topic: str | None = None


class FakeEvent(NamedTuple):
    """One trigger event as sent. Like Novu, duplicates in `to` become one recipient."""

    name: str | None
    transaction_id: str | None
    recipients: tuple[FakeRecipient, ...]
    tenant: str | None
    actor: str | None
    payload: Any
    body: dict[str, Any]


def parse(body: bytes) -> Any:
    """Return the JSON of a body as Node parses it; an empty body is an empty object. Refusal (400) if it is no JSON."""
    if not body:
        return {}
    try:
        return json.loads(body, parse_float=_number, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, _json_error(error, body)) from error


def _json_error(error: Exception, body: bytes) -> str:
    """Return the words of Node's JSON parser for an error of ours."""
    if isinstance(error, json.JSONDecodeError):
        if error.msg.startswith("Expecting property name"):
            place = f"position {error.pos} (line {error.lineno} column {error.colno})"
            return f"Expected property name or '}}' in JSON at {place}"
        if error.pos >= len(error.doc):
            return "Unexpected end of JSON input"
        return f"Unexpected token '{error.doc[error.pos]}', \"{error.doc[:20]}\" is not valid JSON"
    return f"Unexpected token in JSON: {error} in {len(body)} bytes"


def _number(text: str) -> int | float:
    # For JavaScript 1.0 and 1 are the same number, so they must have the same body hash.
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _not_json(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def read_events(path: str, body: Any) -> list[FakeEvent]:
    """Return the events of a trigger, bulk or broadcast body, as far as they can be read."""
    if not isinstance(body, dict):
        return []
    if path.endswith("/bulk"):
        items: Any = body.get("events")
        return [_read(item) for item in items] if isinstance(items, list) else []
    event = _read(body)
    return [event._replace(recipients=(FakeRecipient(EVERYONE),))] if path.endswith("/broadcast") else [event]


def _read(item: Any) -> FakeEvent:
    if not isinstance(item, dict):
        item = {}
    body: dict[str, Any] = item
    return FakeEvent(
        _text(body.get("name")),
        _text(body.get("transactionId")),
        _recipients(body.get("to")),
        _named(body.get("tenant"), "identifier"),
        _named(body.get("actor"), "subscriberId"),
        body.get("payload"),
        body,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _named(value: Any, key: str) -> str | None:
    return _text(value.get(key) if isinstance(value, dict) else value)


def _recipients(to: Any) -> tuple[FakeRecipient, ...]:
    if isinstance(to, str):
        return (FakeRecipient(to),)
    entries: list[Any] = to if isinstance(to, list) else [to]
    named = {recipient.name: recipient for recipient in _read_recipients(entries)}
    return tuple(named.values())


def _read_recipients(entries: Iterable[Any]) -> Iterable[FakeRecipient]:
    for entry in entries:
        if isinstance(entry, str):
            yield FakeRecipient(entry)
        elif isinstance(entry, dict) and "topicKey" in entry:
            yield FakeRecipient(f"topic:{entry['topicKey']}", entry, str(entry["topicKey"]))
        elif isinstance(entry, dict):
            yield FakeRecipient(_text(entry.get("subscriberId")) or "", entry)


def check_single(body: Any, *, broadcast: bool = False, legacy: bool = False) -> None:
    """Refuse an invalid single event with all sentences at once, as class-validator does."""
    given: dict[str, Any] = body if isinstance(body, dict) else {}
    sentences = _text_sentences("name", given.get("name"))
    if not broadcast:
        sentences += _to_sentences("to", given.get("to"), legacy=legacy)
    if broadcast and given.get("payload") is None:
        sentences.append("payload should not be null or undefined")
    sentences += [
        f"{field} must be an object" for field in ("payload", "overrides") if not _object_or_absent(given.get(field))
    ]
    if given.get("transactionId") is not None and not isinstance(given["transactionId"], str):
        sentences.append("transactionId must be a string")
    if sentences:
        raise _invalid(sentences, legacy=legacy)


def _invalid(sentences: list[str], *, legacy: bool) -> Refusal:
    if legacy:
        return Refusal(400, sentences)
    return Refusal(422, "Validation Error", (), {"general": {"messages": sentences, "value": "No Value Recorded"}})


def _text_sentences(field: str, value: Any) -> list[str]:
    missing = [f"{field} should not be null or undefined"] if value is None else []
    return missing if isinstance(value, str) else [*missing, f"{field} must be a string"]


def _to_sentences(field: str, to: Any, *, legacy: bool) -> list[str]:
    missing = [f"{field} should not be null or undefined"] if to is None else []
    valid = legacy or (bool(to) and all(map(_is_recipient, to)) if isinstance(to, list) else _is_recipient(to))
    return missing if valid else [*missing, f"{field} {TO_RULE}"]


def _is_recipient(entry: Any) -> bool:
    names = (entry.get("subscriberId"), entry.get("topicKey")) if isinstance(entry, dict) else (entry,)
    return any(isinstance(name, str) and name for name in names)


def _object_or_absent(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def check_bulk(body: Any, *, legacy: bool = False) -> None:
    """Refuse a bulk call that is invalid as a whole; its items are checked one by one later."""
    events: Any = body.get("events") if isinstance(body, dict) else None
    if not isinstance(events, list):
        raise _invalid(["events should not be empty", "events must be an array"], legacy=legacy)
    if not events:
        raise _invalid(["events should not be empty"], legacy=legacy)
    if not legacy:
        _check_recipients(events)
    if len(events) > MAX_EVENTS:
        sentence = f"events must contain no more than {MAX_EVENTS} elements"
        if legacy:
            raise Refusal(400, [sentence])
        message = f"Validation failed for ProcessBulkTriggerCommand: events: {sentence}"
        raise Refusal(422, message, (), {"events": {"messages": [sentence], "value": body}})


def _check_recipients(events: list[Any]) -> None:
    """Refuse the whole call if one event has no valid `to`, as 3.19.0 does; 2.0.0 refuses no event for it."""
    recipients = [event.get("to") if isinstance(event, dict) else None for event in events]
    found = (_to_sentences(f"events.{index}.to", to, legacy=False) for index, to in enumerate(recipients))
    sentences = [sentence for group in found for sentence in group]
    if sentences:
        raise _invalid(sentences, legacy=False)


def item_sentences(event: FakeEvent, *, legacy: bool = False) -> list[str]:
    """Return the validation errors of one item of a bulk call, in Novu's words."""
    sentences = _text_sentences("identifier", event.body.get("name"))
    if event.payload is None:
        sentences.append("payload should not be null or undefined")
    if not isinstance(event.body.get("transactionId"), str | None):
        sentences.append("transactionId must be a string")
    if legacy:
        return sentences
    command = "Validation failed for ParseEventRequestMulticastCommand"
    return [f"{command}: {sentence.partition(' ')[0]}: {sentence}" for sentence in sentences]
