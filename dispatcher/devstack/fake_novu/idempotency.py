"""Novu's Idempotency-Key: one answer for each organization and key, errors included, kept for 24 hours.

The body hash is computed over the parsed JSON, so blanks do not matter and the order of keys does. While the first call
is running, every other one with the same key gets 409. Limits: 500,000 records and 256 MiB of answers; the oldest
records are removed first.
"""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from dispatcher.devstack.fake_novu.answers import INTERNAL_ERROR, Answer, Refusal, encode
from dispatcher.devstack.fake_novu.settings import Config

MAX_KEY_LENGTH = 255
MAX_RECORDS = 500_000
MAX_BYTES = 256 * 1024 * 1024
DOCUMENTATION = "https://docs.novu.co/additional-resources/idempotency"
LEGACY_DOCUMENTATION = "<https://docs.novu.co/api-reference/idempotency>; rel=help"

Scope = tuple[str, str]
"""(organization, key): neither the environment nor the path is part of it."""


class Record(NamedTuple):
    """The record of a key. Without an outcome, the first call is still running. `expires` is in monotonic seconds."""

    body_hash: bytes
    expires: float
    outcome: Answer | Refusal | None


class IdempotencyStore:
    """Runs one call for each key and answers further ones from memory."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._records: dict[Scope, Record] = {}
        self._bytes = 0
        # Novu varies the lifetime of a record by up to 5 % in both directions.
        self._spread = random.Random()  # noqa: S311  (no secret depends on it)

    def clear(self) -> None:
        """Remove every key."""
        self._records.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    async def guard(self, scope: Scope, body: Any, handle: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer from memory or, for the first call with this key, that of `handle`.

        Raises Refusal: 409 while the first call runs, 422 for another body, 400 for a key that is too long.
        """
        _, key = scope
        if len(key) > MAX_KEY_LENGTH:
            limit = "maximum" if self._config.legacy else "maximum allowed length"
            raise Refusal(400, f'idempotencyKey "{key}" has exceeded the {limit} of {MAX_KEY_LENGTH} characters')
        if self._config.idempotency_store_down:
            raise Refusal(503, "Service Unavailable")
        body_hash = hashlib.blake2s(encode(body)).digest()
        known = self._known(scope)
        if known is not None:
            return self._repeat(known, body_hash, key)
        self._put(scope, Record(body_hash, self._expiry(self._config.idempotency_progress_ttl), None))
        return await self._handle_first(scope, body_hash, handle)

    async def _handle_first(self, scope: Scope, body_hash: bytes, handle: Callable[[], Awaitable[Answer]]) -> Answer:
        echo = ("Idempotency-Key", scope[1])
        try:
            answer = await handle()
        except Refusal as refusal:
            self._store_outcome(scope, body_hash, refusal)
            raise refusal.adding(echo) from refusal
        self._store_outcome(scope, body_hash, answer)
        return answer.adding(echo)

    def _repeat(self, known: Record, body_hash: bytes, key: str) -> Answer:
        echo = ("Idempotency-Key", key)
        link = ("Link", LEGACY_DOCUMENTATION if self._config.legacy else DOCUMENTATION)
        if known.outcome is None:
            waiting = f'Request with key "{key}" is currently being processed. Please retry after 1 second'
            raise Refusal(409, waiting, (("Retry-After", "1"), link, echo))
        if known.body_hash != body_hash:
            reuse = (echo,) if self._config.legacy else (link, echo)
            raise Refusal(422, f'Request with key "{key}" is being reused for a different body', reuse)
        replay = ("Idempotency-Replay", "true")
        if isinstance(known.outcome, Answer):
            return known.outcome.adding(echo, replay)
        if self._config.replay_errors_as_500:
            raise Refusal(500, INTERNAL_ERROR, (echo, replay))
        if not self._config.legacy:
            raise Refusal(503, "Service Unavailable", (echo, replay))
        raise known.outcome.adding(echo, replay)

    def _known(self, scope: Scope) -> Record | None:
        record = self._records.get(scope)
        return record if record is not None and record.expires > time.monotonic() else None

    def _store_outcome(self, scope: Scope, body_hash: bytes, outcome: Answer | Refusal) -> None:
        self._put(scope, Record(body_hash, self._expiry(self._config.idempotency_ttl), outcome))

    def _put(self, scope: Scope, record: Record) -> None:
        self._drop(scope)
        self._records[scope] = record
        self._bytes += _size(record)
        while len(self._records) > MAX_RECORDS or self._bytes > MAX_BYTES:
            self._drop(next(iter(self._records)))

    def _drop(self, scope: Scope) -> None:
        record = self._records.pop(scope, None)
        if record is not None:
            self._bytes -= _size(record)

    def _expiry(self, seconds: float) -> float:
        return time.monotonic() + seconds * self._spread.uniform(0.95, 1.05)


def _size(record: Record) -> int:
    return len(record.outcome.body) if isinstance(record.outcome, Answer) else 0
