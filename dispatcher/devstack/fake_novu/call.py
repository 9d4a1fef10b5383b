"""One HTTP call while it is processed, and its log entry."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.devstack.fake_novu.answers import Answer, Headers
from dispatcher.devstack.fake_novu.events import FakeEvent
from dispatcher.devstack.fake_novu.faults import Fault
from dispatcher.devstack.fake_novu.ledger import LoggedRequest
from dispatcher.devstack.fake_novu.registry import Environment


@dataclass(slots=True)
class FakeCall:
    """A request; the fields from `json` on are set by the steps that process it. `seq` is its number by arrival."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    seq: int
    started_at: float = field(default_factory=time.time)
    json: Any = None
    events: list[FakeEvent] = field(default_factory=list[FakeEvent])
    environment: Environment | None = None
    effects: int = 0
    rate_headers: Headers = ()
    fault: Fault | None = None

    @property
    def idempotency_key(self) -> str | None:
        """The idempotency key as sent; an empty one counts as none."""
        return self.headers.get("idempotency-key") or None

    @property
    def owner(self) -> Environment:
        """The environment of the API key; only for handlers behind authentication."""
        if self.environment is None:
            raise RuntimeError(f"{self.path} was handled without authentication")
        return self.environment

    def logged(self, answer: Answer) -> LoggedRequest:
        """Return the entry for the request log."""
        events = self.events
        return LoggedRequest(
            seq=self.seq,
            started_at=self.started_at,
            ended_at=time.time(),
            method=self.method,
            path=self.path,
            environment=self.environment.id if self.environment else None,
            idempotency_key=self.idempotency_key,
            transaction_ids=tuple(event.transaction_id for event in events),
            subscribers=tuple(recipient.name for event in events for recipient in event.recipients),
            workflow_keys=tuple(event.name for event in events),
            tenants=tuple(event.tenant for event in events if event.tenant is not None),
            body_hash=hashlib.sha256(self.body).hexdigest(),
            status=answer.status,
            replayed=("Idempotency-Replay", "true") in answer.headers,
            effects=self.effects,
            fault=self.fault.kind if self.fault is not None else None,
        )
