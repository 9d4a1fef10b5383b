"""Follows Novu's rate limit: a copy of Novu's token bucket, kept up to date from the headers of its answers.

No call waits before an answer has named the limit. Calls get their tokens first come, first served: otherwise single
calls would delay a bulk call, which costs 100 tokens, for ever.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping

from dispatcher.decisions.classification import retry_after

DEFAULT_RETRY_AFTER_SECONDS = 1.0
"""Wait after an HTTP 429 without a Retry-After header."""
MAX_REFILL_SECONDS = 60.0
"""An empty bucket is full again after at most this time, whatever Novu's headers say: only the answer to a call can
correct a wrong header, so a header must never stop all calls."""
POLICY = re.compile(r"(\d{1,9});w=(\d{1,9})(?:;burst=(\d{1,9}))?(?![\d])", re.ASCII)
REMAINING = re.compile(r"\d{1,9}", re.ASCII)


class RateLimiter:
    """One rate limit of an environment at Novu, which has several by category; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue = asyncio.Lock()
        self._rate = 0.0  # tokens per second
        self._burst: int | None = None
        self._tokens = 0.0
        self._counted_at = 0.0
        self._stopped_until = 0.0

    @property
    def burst(self) -> int | None:
        """The most tokens that the bucket can hold; None: no limit is known."""
        return self._burst

    def update_from(self, status: int, headers: Mapping[str, str]) -> None:
        """Update the bucket from an answer; `headers` has lower-case names. A 429 stops calls for its Retry-After.

        A success without readable headers means that Novu has no limit, or has none any more.
        """
        policy = POLICY.match(headers.get("ratelimit-policy", ""))
        remaining = REMAINING.fullmatch(headers.get("ratelimit-remaining", ""))
        if policy and remaining and int(policy[1]) > 0 and int(policy[2]) > 0:
            limit, window, burst = (int(number or 0) for number in policy.groups())
            known, left = self._refill(), float(remaining[0])
            # The lower number: Novu does not count calls on their way yet, and we do not see calls of other clients.
            self._tokens = left if self._burst is None else min(known, left)
            self._burst, self._counted_at = max(burst, limit), self._clock()
            self._rate = max(limit / window, self._burst / MAX_REFILL_SECONDS)
        elif 200 <= status < 300:
            self._burst = None
        if status == 429:
            wait = retry_after(headers)
            self._stopped_until = self._clock() + (DEFAULT_RETRY_AFTER_SECONDS if wait is None else wait)

    async def acquire(self, cost: int, max_wait: float) -> bool:
        """Wait until `cost` tokens are there and take them; return False if that takes more than `max_wait` seconds."""
        try:
            async with asyncio.timeout(max_wait), self._queue:
                while (wait := self._seconds_until(cost)) > 0:  # noqa: ASYNC110  (only time brings tokens)
                    await asyncio.sleep(wait)
                self._tokens -= cost
        except TimeoutError:
            return False
        return True

    def _seconds_until(self, cost: int) -> float:
        """Return the seconds until `cost` tokens are there, or a full bucket if `cost` is more than it can hold."""
        stopped = self._stopped_until - self._clock()
        if self._burst is None:
            return stopped
        return max(stopped, (min(cost, self._burst) - self._refill()) / self._rate)

    def _refill(self) -> float:
        """Add the tokens that arrived since the last count, and return how many there are."""
        now = self._clock()
        self._tokens = min(float(self._burst or 0), self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        return self._tokens
