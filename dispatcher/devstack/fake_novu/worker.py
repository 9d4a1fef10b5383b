"""The part of Novu behind its API: takes queued events, creates runs, and silently drops invalid recipients.

Novu's check for a duplicate transactionId is here, late and not atomic: it looks for a stored job, and stores its own
job `worker_delay_ms` later. Events taken in between all pass the check. At most `worker_concurrency` events are between
check and storage; further ones wait in the queue.
"""

import asyncio
import re
import time
from collections import deque
from typing import Any, NamedTuple

from dispatcher.devstack.fake_novu.events import EVERYONE, FakeEvent, FakeRecipient
from dispatcher.devstack.fake_novu.ledger import EffectLog
from dispatcher.devstack.fake_novu.registry import NovuWorkflow, Registry
from dispatcher.devstack.fake_novu.runs import Run, RunStore
from dispatcher.devstack.fake_novu.settings import Config

MAX_LOSSES = 10_000
SEVERITIES = (None, "none", "low", "medium", "high")
MAX_SUBSCRIBERS = 600_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")


class Queued(NamedTuple):
    """An accepted event, without its payload."""

    environment: str
    transaction_id: str
    workflow: NovuWorkflow
    recipients: tuple[FakeRecipient, ...]
    actor: str | None
    severity: Any


class Loss(NamedTuple):
    """A recipient whose event the API answered with `processed` and that the worker dropped, with the reason."""

    environment: str
    transaction_id: str
    subscriber: str
    reason: str


class _EventLost(Exception):
    """The event is dropped for all of its recipients."""


def queued(environment: str, transaction_id: str, workflow: NovuWorkflow, event: FakeEvent) -> Queued:
    """Return the queued form of an accepted event."""
    overrides = event.body.get("overrides")
    severity = overrides.get("severity") if isinstance(overrides, dict) else None
    return Queued(environment, transaction_id, workflow, event.recipients, event.actor, severity)


class NovuWorker:
    """Processes the queue on timers of the running event loop; it needs no start and no stop."""

    def __init__(self, config: Config, registry: Registry, ledger: EffectLog) -> None:
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self.runs = RunStore()
        self.clear()

    def clear(self) -> None:
        """Remove queue, runs and subscribers. Timers that still fire belong to an old generation and do nothing."""
        self.runs.clear()
        self.queue: deque[Queued] = deque()
        self.subscribers: dict[tuple[str, str], dict[str, Any] | None] = {}
        self.losses: deque[Loss] = deque(maxlen=MAX_LOSSES)
        self.in_flight = self.duplicates = 0
        self._generation = object()

    def submit(self, events: list[Queued]) -> None:
        """Queue accepted events, and process them if slots are free."""
        self.queue.extend(events)
        self.process_queued()

    def process_queued(self) -> None:
        """Take as many events as slots are free: check for duplicates now, store `worker_delay_ms` later."""
        free = max(0, self._config.worker_concurrency - self.in_flight)
        if self._config.worker_paused or not self.queue or not free:
            return
        batch = [self.queue.popleft() for _ in range(min(free, len(self.queue)))]
        fresh = [item for item in batch if not self.runs.exists(item.environment, item.transaction_id)]
        self.duplicates += len(batch) - len(fresh)
        self.in_flight += len(batch)
        delay = self._config.worker_delay_ms / 1000
        asyncio.get_running_loop().call_later(delay, self._store, fresh, len(batch), self._generation)

    def _store(self, batch: list[Queued], slots: int, generation: object) -> None:
        if generation is not self._generation:
            return
        self.in_flight -= slots
        for item in batch:
            self._process(item)
        self.process_queued()

    def _process(self, item: Queued) -> None:
        if item.severity not in SEVERITIES and not self._config.legacy:
            self._record_loss(item, ",".join(recipient.name for recipient in item.recipients), "unknown severity")
            return
        try:
            recipients = [found for recipient in item.recipients for found in self._resolve(item, recipient)]
        except _EventLost as lost:
            self._record_loss(item, ",".join(recipient.name for recipient in item.recipients), str(lost))
            return
        for recipient in {recipient.name: recipient for recipient in recipients}.values():
            self._notify(item, recipient)

    def _resolve(self, item: Queued, recipient: FakeRecipient) -> list[FakeRecipient]:
        """Return the subscribers of a recipient: here, not in the API, Novu resolves topics and broadcasts."""
        if recipient.name == EVERYONE:
            return [FakeRecipient(name) for owner, name in self.subscribers if owner == item.environment]
        if recipient.topic is None:
            return [recipient]
        members = self._registry.topics.get(recipient.topic)
        if members is None:
            raise _EventLost(f"Topic {recipient.topic} not found")
        excluded = (recipient.fields or {}).get("exclude")
        left_out = {item.actor, *(excluded if isinstance(excluded, list) else [])}
        return [FakeRecipient(member) for member in sorted(members - left_out)]

    def _notify(self, item: Queued, recipient: FakeRecipient) -> None:
        reason = _recipient_error(recipient)
        if reason is not None:
            self._record_loss(item, recipient.name, reason)
            return
        self._store_subscriber(item.environment, recipient)
        if item.workflow.running:
            self._run(item, recipient)

    def _store_subscriber(self, environment: str, recipient: FakeRecipient) -> None:
        """Create or update a subscriber. An absent field keeps its value; an explicit null deletes it."""
        who = (environment, recipient.name)
        known = self.subscribers.get(who)
        # Store None for a subscriber without fields: most have none, and there may be hundreds of thousands.
        self.subscribers[who] = {**(known or {}), **recipient.fields} if recipient.fields else known
        if len(self.subscribers) > MAX_SUBSCRIBERS:
            del self.subscribers[next(iter(self.subscribers))]

    def _run(self, item: Queued, recipient: FakeRecipient) -> None:
        run = self.runs.create(item.environment, item.transaction_id, recipient.name, item.workflow, time.time())
        self._ledger.delivered((item.environment, item.transaction_id, recipient.name), item.workflow.key)
        self._advance(run, self._generation)

    def _advance(self, run: Run, generation: object) -> None:
        seconds = run.advance()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._resume, run, generation)

    def _resume(self, run: Run, generation: object) -> None:
        if run.canceled or generation is not self._generation:
            return
        run.position += 1
        self._advance(run, generation)

    def _record_loss(self, item: Queued, subscriber: str, reason: str) -> None:
        self.losses.append(Loss(item.environment, item.transaction_id, subscriber, reason))


def _recipient_error(recipient: FakeRecipient) -> str | None:
    if not recipient.name:
        return "subscriberId under property to is not configured"
    email = recipient.fields.get("email") if recipient.fields else None
    if isinstance(email, str) and not _EMAIL.fullmatch(email):
        return "email must be an email"
    return None
