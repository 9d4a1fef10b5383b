"""Scripted faults: rules that make chosen calls go wrong, each counting how often it was asked and how often it struck.

A rule looks at method, path, Novu workflow and recipient, then at the number of the matching call, then at a seeded
die. The first rule that strikes decides. Where a fault sits in the way of a call decides what a repeat finds: `FRONT`
strikes before idempotency and does nothing, `INSIDE` is remembered under the key, `AFTER` loses or damages a sound
answer.
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
    "unknown_status",
    "partial_bulk",
)
BAD_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class MatchedCall(Protocol):
    """The part of a call that a rule looks at."""

    method: str
    path: str
    events: list[FakeEvent]


@dataclass(slots=True)
class Fault:
    """One rule; what its kind does not need is left alone."""

    kind: str
    method: str = ""
    path: str = ""
    workflow: str = ""
    recipient: str = ""
    nth: int = 0  # only this matching call, counted from 1
    times: int = 0  # at most so often
    probability: float = 1.0
    seed: int = 0
    status: int = 500
    message: str = ""
    retry_after: str = ""
    location: str = ""
    result: str = ""  # the status of an event: what `item_error` and `unknown_status` answer
    seconds: float = 1.0  # of `delay`; between two bytes of the slow ones
    body: str = ""  # one character a byte
    headers: dict[str, str] = field(default_factory=dict[str, str])
    match_count: int = field(default=0, init=False)
    hit_count: int = field(default=0, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def hits(self, call: MatchedCall) -> bool:
        """Whether this call is hit; counts."""
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
        """Whether the rule means this event of a call."""
        named = not self.recipient or any(recipient.name == self.recipient for recipient in event.recipients)
        return named and self.workflow in ("", event.name)

    def before_idempotency(self) -> Answer | None:
        """The answer of something in front of Novu's handlers, if this is such a fault."""
        if self.kind == "status":
            raise self._refusal()
        if self.kind == "html":
            return Answer(502, BAD_GATEWAY_PAGE, (("Content-Type", "text/html"),))
        return Answer(0, b"") if self.kind in BEFORE_IDEMPOTENCY else None

    def inside_handler(self) -> None:
        """Raise what Novu will remember under the key, if this is such a fault."""
        if self.kind == "cached_status":
            raise self._refusal()

    def damage(self, answer: Answer) -> Answer:
        """The answer as it leaves."""
        if self.kind == "malformed":
            return answer._replace(body=answer.body[: len(answer.body) // 2])
        if self.kind == "body":
            return answer._replace(body=self.body.encode("latin-1")).adding(*self.headers.items())
        if self.kind in ("unknown_status", "partial_bulk") and answer.status == 201:
            return answer._replace(body=encode({"data": self._with_other_results(json.loads(answer.body)["data"])}))
        return answer

    def as_json(self) -> dict[str, Any]:
        """What became of the rule."""
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
    """The rules in force, in the order they were added."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def add(self, data: Mapping[str, Any]) -> None:
        """Add one rule, or refuse it with what is wrong."""
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
        """The first rule that hits this call."""
        return next((rule for rule in self.rules if rule.hits(call)), None)
