"""Answers as the real server was seen to send them, and how their outcome is looked at."""

import json
from typing import Any

from dispatcher.decisions.classification import MAX_DETAIL_CHARS, classify
from dispatcher.models.call_result import CallResult

ECHO = {"idempotency-key": "k"}
REPLAY = {**ECHO, "idempotency-replay": "true"}


def error(status: int, message: Any, **more: Any) -> bytes:
    """Return Novu's usual error body."""
    shape = {"statusCode": status, "timestamp": "2026-01-01T00:00:00.000Z", "path": "/v1/events/trigger"}
    return json.dumps({**shape, "message": message, **more}).encode()


def answer(status: str, **more: Any) -> bytes:
    """Return Novu's usual answer to a single trigger."""
    return json.dumps({"data": {"acknowledged": True, "status": status, **more}}).encode()


def bulk_of(*items: dict[str, Any]) -> bytes:
    """Return Novu's answer to a bulk call."""
    return json.dumps({"data": items}).encode()


def single(status: int, body: bytes, headers: dict[str, str] | None = None) -> CallResult:
    """Return the outcome of a call with one event."""
    [outcome] = classify(status, headers or {}, body, 1, bulk=False)
    return outcome


def assert_storable(outcome: CallResult) -> None:
    """A detail goes into a text column, a jsonb column and a log line."""
    outcome.detail.encode()  # a lone surrogate would raise
    assert len(outcome.detail) <= MAX_DETAIL_CHARS + 60
    assert outcome.detail.isprintable()
