"""Scripted faults: rules that make chosen calls fail. Each rule counts the calls it matched and the calls it hit.

A rule compares method, path, Novu workflow and recipient, then the number of the matching call, then a seeded random
number. The first rule that hits a call applies. The kind decides what a repeated call finds: a fault of
`BEFORE_IDEMPOTENCY` has no effect in Novu, one `INSIDE_HANDLER` is remembered under the key, and one `AFTER_HANDLER`
loses or damages the answer to a call that had its effect.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from dispatcher.devstack.fake_novu.answers import INTERNAL_ERROR, Answer, Headers, Refusal, encode
from dispatcher.devstack.fake_novu.events import FakeEvent
from dispatcher.devstack.fake_novu.settings import BadControl

BEFORE_IDEMPOTENCY = ("status", "html", "reset_before", "hang")
INSIDE_HANDLER = ("cached_status", "delay", "item_error")
AFTER_HANDLER = (
    "reset_after",
    "silent",
    "half_answer",
    "slow_headers",
    "slow_body",
    "malformed",
    "body",
    "html_after",
    "unknown_status",
    "partial_bulk",
)
BAD_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


def html_page(status: int) -> Answer:
    """Return the answer of something before Novu."""
    return Answer(status, BAD_GATEWAY_PAGE, (("Content-Type", "text/html"),))


class MatchedCall(Protocol):
    """The fields of a call that a rule compares."""

    method: str
    path: str
    events: list[FakeEvent]


@dataclass(slots=True)
class Fault:
    """One rule. Fields that its kind does not need are ignored."""

    kind: str
    method: str = ""
    path: str = ""
    workflow: str = ""
    recipient: str = ""
    nth: int = 0  # only this matching call, counted from 1
    times: int = 0  # maximum number of hits; 0 is no limit
    probability: float = 1.0
    seed: int = 0
    status: int = 500
    message: str = ""
    retry_after: str = ""
    location: str = ""
    result: str = ""  # the status of an event in the answers of `item_error` and `unknown_status`
    seconds: float = 1.0  # duration of `delay`; time between two bytes of `slow_headers` and `slow_body`
    body: str = ""  # each character is one byte
    headers: dict[str, str] = field(default_factory=dict[str, str])
    match_count: int = field(default=0, init=False)
    hit_count: int = field(default=0, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def match_and_count(self, call: MatchedCall) -> bool:
        """Return whether the rule applies to this call now. Count the calls that it matches and those that it hits."""
        if not self._matches(call):
            return False
        self.match_count += 1
        hit = (
            self.nth in (0, self.match_count)
            and not 0 < self.times <= self.hit_count
            and self._random.random() < self.probability
        )
        self.hit_count += hit
        return hit

    def applies_to(self, event: FakeEvent) -> bool:
        """Return whether the rule applies to this event of a call."""
        named = not self.recipient or any(recipient.name == self.recipient for recipient in event.recipients)
        return named and self.workflow in ("", event.name)

    def before_idempotency(self) -> Answer | None:
        """Return the answer of a fault before idempotency, None for another kind; Refusal for the kind `status`."""
        if self.kind == "status":
            raise self._refusal()
        if self.kind == "html":
            return html_page(502)
        return Answer(0, b"") if self.kind in BEFORE_IDEMPOTENCY else None

    def inside_handler(self) -> None:
        """Raise the error that Novu will remember under the key, if this is a fault of that kind."""
        if self.kind == "cached_status":
            raise self._refusal()

    def damage(self, answer: Answer) -> Answer:
        """Return the answer to send, damaged if this is a fault after the handler."""
        if self.kind == "malformed":
            return answer._replace(body=answer.body[: len(answer.body) // 2])
        if self.kind == "html_after":
            return html_page(self.status)
        if self.kind == "body":
            return answer._replace(body=self.body.encode("latin-1")).adding(*self.headers.items())
        if self.kind in ("unknown_status", "partial_bulk") and answer.status == 201:
            return answer._replace(body=encode({"data": self._with_other_results(json.loads(answer.body)["data"])}))
        return answer

    def as_json(self) -> dict[str, Any]:
        """Return the rule's kind and counts."""
        return {"kind": self.kind, "seen": self.match_count, "struck": self.hit_count}

    def _matches(self, call: MatchedCall) -> bool:
        meant = not (self.workflow or self.recipient) or any(self.applies_to(event) for event in call.events)
        return self.path in ("", call.path) and self.method in ("", call.method) and meant

    def _refusal(self) -> Refusal:
        headers: Headers = (("Retry-After", self.retry_after),) if self.retry_after else ()
        headers += (("Location", self.location),) if self.location else ()
        return Refusal(self.status, self.message or INTERNAL_ERROR, headers)

    def _with_other_results(self, data: Any) -> Any:
        if self.kind == "partial_bulk":
            return data[: len(data) // 2] if isinstance(data, list) else data
        items: list[Any] = data if isinstance(data, list) else [data]
        retold = [item | {"status": self.result or "postponed"} for item in items]
        return retold if isinstance(data, list) else retold[0]


class Faults:
    """The active rules, in the order in which they were added."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def add(self, data: Mapping[str, Any]) -> None:
        """Add one rule; BadControl, with the reason, if it is not valid."""
        known = {each.name: each for each in fields(Fault) if each.init}
        if unknown := set(data) - set(known):
            raise BadControl(f"unknown fields {sorted(unknown)}; known: {', '.join(known)}")
        if data.get("kind") not in (*BEFORE_IDEMPOTENCY, *INSIDE_HANDLER, *AFTER_HANDLER):
            raise BadControl(f"kind must be one of {', '.join((*BEFORE_IDEMPOTENCY, *INSIDE_HANDLER, *AFTER_HANDLER))}")
        try:
            self.rules.append(Fault(**data))
        except TypeError as error:
            raise BadControl(str(error)) from error

    def match(self, call: MatchedCall) -> Fault | None:
        """Return the first rule that hits this call, or None."""
        return next((rule for rule in self.rules if rule.match_and_count(call)), None)
