"""Novu as its documentation has it, for one history: it remembers keys for 24 hours, and how often it accepted what.

The answers are raw ones, read by the real `classify`. What a call is answered is chosen by the history that runs.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dispatcher.decisions.classification import classify, classify_lookup
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.novu.rate_limit import RateLimiter

REMEMBERED = 24 * 3600.0
VISIBLE = 15.0
"""How long it can take until a run that was accepted is listed."""


class Answer(StrEnum):
    """The answer to a call."""

    ACCEPT = "accept"
    REFUSE = "refuse the first event"
    ITEM_ERROR = "an error in the first event's place, stored under the key"
    INVALID = "400, stored under the key"
    BUSY = "503"
    RATE_LIMITED = "429 with Retry-After"
    IN_FLIGHT = "409"
    STORED_500 = "500, stored under the key"
    PROXY_502 = "502 of something in between"
    ROUTER_503 = "effect, and a router's own 503"
    LOST_AFTER = "effect, and no answer"
    LOST_BEFORE = "neither effect nor answer"
    WRONG_KEY = "401"


@dataclass
class Stored:
    """The answer that Novu stores under a key."""

    at: float
    body: Sequence[TriggerEvent]
    status: int
    answer: bytes


@dataclass
class Novu:
    """All of Novu, as every node sees it."""

    idempotency_on: bool = True
    keys: dict[str, Stored] = field(default_factory=dict[str, Stored])
    effects: Counter[str] = field(default_factory=Counter[str])
    accepted_at: dict[str, float] = field(default_factory=dict[str, float])
    calls: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By transactionId and key."""

    def trigger(self, events: Sequence[TriggerEvent], key: str, answer: Answer, now: float) -> list[CallResult]:
        """Answer one call."""
        self.calls.update((event.transaction_id, key) for event in events)
        if answer is Answer.LOST_BEFORE:
            return [CallResult(AnswerClass.UNKNOWN, "timeout", "no answer")] * len(events)
        status, headers, body = self._answered(events, key, answer, now)
        if answer is Answer.LOST_AFTER:
            return [CallResult(AnswerClass.UNKNOWN, "timeout", "no answer")] * len(events)
        if answer is Answer.ROUTER_503:
            status, headers, body = 503, {}, b"<h1>Application error</h1>"
        return classify(status, headers, body, len(events), bulk=len(events) > 1)

    def _answered(
        self, events: Sequence[TriggerEvent], key: str, answer: Answer, now: float
    ) -> tuple[int, dict[str, str], bytes]:
        before = self.keys.get(key)
        headers = {"idempotency-key": key} if self.idempotency_on else {}
        if before is not None and now - before.at < REMEMBERED:
            if before.body != list(events):
                return 422, {}, b'{"message": "the key was used with a different body"}'
            return before.status, {**headers, "idempotency-replay": "true"}, before.answer
        status, body, stored = self._worked(events, answer, now)
        if stored and self.idempotency_on:
            self.keys[key] = Stored(now, list(events), status, body)
        retry = {"retry-after": "30"} if answer is Answer.RATE_LIMITED else {}
        return status, {**(headers if stored else {}), **retry}, body

    def _worked(self, events: Sequence[TriggerEvent], answer: Answer, now: float) -> tuple[int, bytes, bool]:
        """Do what the answer says; return status, body, and whether they are stored under the key."""
        plain = {Answer.BUSY: 503, Answer.RATE_LIMITED: 429, Answer.IN_FLIGHT: 409, Answer.PROXY_502: 502}
        if answer in plain or answer is Answer.WRONG_KEY:
            status = plain.get(answer, 401)
            return status, json.dumps({"statusCode": status}).encode() if status == 503 else b"{}", False
        if answer in (Answer.STORED_500, Answer.INVALID):
            return 500 if answer is Answer.STORED_500 else 400, b'{"message": "no"}', True
        items: list[dict[str, Any]] = [{"status": "processed"} for _ in events]
        if answer is Answer.REFUSE:
            items[0] = {"status": "trigger_not_active"}
        if answer is Answer.ITEM_ERROR:
            items[0] = {"status": "error", "error": ["try later"]}
        for event, item in zip(events, items, strict=True):
            if item["status"] == "processed":
                self.effects[event.transaction_id] += 1
                self.accepted_at[event.transaction_id] = now
        return 201, json.dumps({"data": items if len(events) > 1 else items[0]}).encode(), True

    def look_up(self, event: TriggerEvent, answer: Answer, now: float) -> CallResult:
        """Say whether a run came of an earlier call; it takes a while to be listed."""
        if answer is not Answer.ACCEPT:
            return CallResult(AnswerClass.UNKNOWN, "look_up_failed", "no answer")
        listed = now - self.accepted_at.get(event.transaction_id, now) >= VISIBLE
        runs = [{"subscriber": {"subscriberId": event.recipient}}] if listed else []
        return classify_lookup(200, {}, json.dumps({"data": runs}).encode(), event.recipient)


@dataclass
class Process:
    """The state of one process towards Novu: the circuit breaker, and whether keys are honoured."""

    novu: Novu
    breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(probe_succeeds))
    idempotency_on: bool | None = None
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)

    def learn(self, outcomes: Sequence[CallResult]) -> None:
        """Learn from results as the real client does."""
        if any(outcome.answer_class is AnswerClass.ACCOUNT_ERROR for outcome in outcomes):
            self.breaker.allows_calls = False
        if any(outcome.answer_class is AnswerClass.ACCEPTED and outcome.code == "processed" for outcome in outcomes):
            self.idempotency_on = self.novu.idempotency_on


async def probe_succeeds() -> bool:
    """Answer a probe."""
    return True
