"""Novu's rate limits: a token bucket for each environment and category, described in headers of each limited answer.

The window is 5 s, the burst is 10 % above it. A single trigger and a cancel cost one token of `trigger`; bulk and
broadcast cost 100. The list of workflows costs one of `configuration`, every other call one of `global`.
"""

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

from dispatcher.devstack.fake_novu.answers import Headers, Refusal
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.settings import Config

WINDOW_SECONDS = 5
BURST = 1.1
SHARES: Mapping[str, float] = {"trigger": 1.0, "global": 1 / 2, "configuration": 1 / 3}
"""The rate of each category as a part of that for triggers, as in Novu's free plan: 60, 30 and 20 per second."""
TRIGGERS = "/v1/events/trigger"


class Price(NamedTuple):
    """The tokens that a call costs, and the name that Novu has for this number."""

    category: str
    name: str = "single"
    tokens: int = 1


class FakeRateLimiter:
    """The token buckets. No limit while `rate_limit` is 0."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._buckets: dict[tuple[str, str, float], tuple[float, float]] = {}

    def clear(self) -> None:
        """Refill every bucket."""
        self._buckets.clear()

    def spend(self, call: FakeCall) -> Headers:
        """Spend the tokens of a call and return the headers for its answer; Refusal (429) if there are too few."""
        if not self._config.rate_limit:
            return ()
        price = price_of(call)
        rate = self._config.rate_limit * SHARES[price.category]
        burst = math.floor(rate * WINDOW_SECONDS * BURST)
        # A changed limit starts with a new bucket.
        bucket = (call.owner.id, price.category, rate)
        now = time.monotonic()
        tokens, filled_at = self._buckets.get(bucket, (float(burst), now))
        tokens = min(burst, tokens + (now - filled_at) * rate)
        allowed = tokens >= price.tokens
        tokens -= price.tokens if allowed else 0
        self._buckets[bucket] = (tokens, now)
        wait = max(0, math.ceil((price.tokens - tokens) / rate))
        headers = _headers(rate, burst, tokens, price, wait)
        if allowed:
            return headers
        raise Refusal(429, "API rate limit exceeded", (*headers, ("Retry-After", str(wait))))


def price_of(call: FakeCall) -> Price:
    """Return the price of a call."""
    if call.path.startswith(TRIGGERS):
        return Price("trigger") if call.path == TRIGGERS or call.method == "DELETE" else Price("trigger", "bulk", 100)
    return Price("configuration" if call.path == "/v2/workflows" else "global")


def _headers(rate: float, burst: int, tokens: float, price: Price, wait: int) -> Headers:
    """Return the headers of a limited answer; `wait`: whole seconds until the next call of this price is allowed."""
    limit = math.floor(rate * WINDOW_SECONDS)
    policy = f'{limit};w={WINDOW_SECONDS};burst={burst};comment="token bucket"'
    return (
        ("RateLimit-Limit", str(limit)),
        ("RateLimit-Remaining", str(math.floor(tokens))),
        ("RateLimit-Reset", str(wait)),
        ("RateLimit-Policy", f'{policy};category="{price.category}";cost="{price.name}";serviceLevel="free"'),
    )
