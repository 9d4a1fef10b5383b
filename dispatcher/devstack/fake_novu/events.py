"""Reads trigger bodies: the events they contain, and the sentences of Novu's validation.

Reading never fails, because the request log needs the ids of refused requests too; the checks are separate. Novu's
validation of recipients is lax: a recipient without an id is accepted here and lost later in the worker.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from dispatcher.devstack.fake_novu.answers import Refusal, encode

MAX_EVENTS = 100
MAX_PAYLOAD_BYTES = 512 * 1024
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
        raise Refusal(400, f"Unexpected token in JSON: {error}") from error


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


def check_single(body: Any, *, broadcast: bool = False) -> None:
    """Refuse an invalid single event with all sentences at once, as class-validator does."""
    given: dict[str, Any] = body if isinstance(body, dict) else {}
    sentences = _text_sentences("name", given.get("name"))
    if given.get("to") is None and not broadcast:
        sentences.append("to should not be null or undefined")
    if broadcast and given.get("payload") is None:
        sentences.append("payload should not be null or undefined")
    sentences += [
        f"{field} must be an object" for field in ("payload", "overrides") if not _object_or_absent(given.get(field))
    ]
    if given.get("transactionId") is not None and not isinstance(given["transactionId"], str):
        sentences.append("transactionId must be a string")
    if sentences:
        raise Refusal(400, sentences)


def _text_sentences(field: str, value: Any) -> list[str]:
    missing = [f"{field} should not be null or undefined"] if value is None else []
    return missing if isinstance(value, str) else [*missing, f"{field} must be a string"]


def _object_or_absent(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def check_bulk(body: Any) -> None:
    """Refuse a bulk call that is invalid as a whole; its items are checked one by one later."""
    events: Any = body.get("events") if isinstance(body, dict) else None
    if not isinstance(events, list):
        raise Refusal(400, ["events should not be empty", "events must be an array"])
    if not events:
        raise Refusal(400, ["events should not be empty"])
    if len(events) > MAX_EVENTS:
        raise Refusal(400, [f"events must contain no more than {MAX_EVENTS} elements"])


def item_sentences(event: FakeEvent) -> list[str]:
    """Return the validation errors of one item of a bulk call, in Novu's words."""
    sentences = _text_sentences("identifier", event.body.get("name"))
    if event.payload is None:
        sentences.append("payload should not be null or undefined")
    if not isinstance(event.body.get("transactionId"), str | None):
        sentences.append("transactionId must be a string")
    return sentences


def check_sizes(events: list[FakeEvent], size: int) -> None:
    """Refuse the call if one payload is above 512 KiB, as newer versions do."""
    if size <= MAX_PAYLOAD_BYTES:
        return
    for index, event in enumerate(events):
        length = len(encode(event.payload))
        if length > MAX_PAYLOAD_BYTES:
            where = f" of event {index}" if len(events) > 1 else ""
            raise Refusal(413, f"payload{where} has {length} bytes, the limit is {MAX_PAYLOAD_BYTES}")
