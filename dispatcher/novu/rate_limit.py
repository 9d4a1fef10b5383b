"""Novu's rate limit, followed: a token bucket kept by what Novu's answers tell of its own.

Nobody waits before an answer has named the limit. Calls wait in the order they came, so that a bulk call, which costs
as much as a hundred single ones, is not overtaken for ever.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping

from dispatcher.decisions.classification import retry_after

DEFAULT_RETRY_AFTER_SECONDS = 1.0
"""How long a refusal lasts that does not say so."""


class RateLimiter:
    """How fast Novu lets us call, as far as it told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue = asyncio.Lock()
        self._rate = 0.0
        self._burst: int | None = None
        self._tokens = 0.0
        self._counted_at = 0.0
        self._stopped_until = 0.0

    @property
    def burst(self) -> int | None:
        """Return the tokens that there can be at once; None: we know of no limit."""
        return self._burst

    def update_from(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer; `headers` has lower-case names."""
        policy = re.match(r"(\d+);w=(\d+)(?:;burst=(\d+))?", headers.get("ratelimit-policy", ""))
        remaining = headers.get("ratelimit-remaining", "")
        if policy and remaining.isdecimal() and int(policy[2]) > 0:
            limit, window, burst = (int(number or 0) for number in policy.groups())
            known = self._refill() if self._burst is not None else float(remaining)
            self._rate, self._burst = limit / window, max(burst, limit)
            # The lower of the two: Novu has not seen yet what is on its way, and we do not see what others use.
            self._tokens, self._counted_at = min(known, float(remaining)), self._clock()
        if status == 429:
            wait = retry_after(headers)
            self._stopped_until = self._clock() + (DEFAULT_RETRY_AFTER_SECONDS if wait is None else wait)

    async def acquire(self, cost: int, max_wait: float) -> bool:
        """Wait until calls of this price may go, and pay; return False when that takes longer than `patience` s."""
        try:
            async with asyncio.timeout(max_wait), self._queue:
                while (wait := self._seconds_until(cost)) > 0:  # noqa: ASYNC110  (only time brings tokens)
                    await asyncio.sleep(wait)
                self._tokens -= cost
        except TimeoutError:
            return False
        return True

    def _seconds_until(self, cost: int) -> float:
        """Return the seconds until there are so many tokens; more than the bucket holds is never asked for."""
        stopped = self._stopped_until - self._clock()
        if self._burst is None or self._rate == 0:
            return stopped
        return max(stopped, (min(cost, self._burst) - self._refill()) / self._rate)

    def _refill(self) -> float:
        """Return the tokens there are now."""
        now = self._clock()
        self._tokens = min(float(self._burst or 0), self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        return self._tokens
