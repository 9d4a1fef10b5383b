"""Novu's rate limit for triggers: a token bucket for each environment, described in headers of each limited answer.

The window is 5 s, the burst is 10 % above it. A single trigger costs one token; bulk and broadcast cost 100. Reads are
in another category of Novu, which is not limited here.
"""

import math
import time

from dispatcher.devstack.fake_novu.answers import Headers, Refusal
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.settings import Config

WINDOW_SECONDS = 5
BURST = 1.1
COSTS = {
    "/v1/events/trigger": ("single", 1),
    "/v1/events/trigger/bulk": ("bulk", 100),
    "/v1/events/trigger/broadcast": ("bulk", 100),
}


class FakeRateLimiter:
    """The token buckets. No limit while `rate_limit` is 0."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._buckets: dict[tuple[str, float], tuple[float, float]] = {}

    def clear(self) -> None:
        """Refill every bucket."""
        self._buckets.clear()

    def spend(self, call: FakeCall) -> Headers:
        """Spend the tokens of a call and return the headers for its answer; Refusal (429) if there are too few."""
        rate = self._config.rate_limit
        if not rate or call.path not in COSTS or call.method != "POST":
            return ()
        name, cost = COSTS[call.path]
        burst = math.floor(rate * WINDOW_SECONDS * BURST)
        # A changed limit starts with a new bucket.
        bucket = (call.owner.id, rate)
        now = time.monotonic()
        tokens, filled_at = self._buckets.get(bucket, (float(burst), now))
        tokens = min(burst, tokens + (now - filled_at) * rate)
        allowed = tokens >= cost
        tokens -= cost if allowed else 0
        self._buckets[bucket] = (tokens, now)
        headers = _headers(rate, burst, tokens, name)
        if allowed:
            return headers
        wait = math.ceil((cost - tokens) / rate)
        raise Refusal(429, "API rate limit exceeded", (*headers, ("Retry-After", str(wait))))


def _headers(rate: float, burst: int, tokens: float, cost: str) -> Headers:
    limit = math.floor(rate * WINDOW_SECONDS)
    policy = f'{limit};w={WINDOW_SECONDS};burst={burst};comment="token bucket";category="trigger";cost="{cost}"'
    return (
        ("RateLimit-Limit", str(limit)),
        ("RateLimit-Remaining", str(math.floor(tokens))),
        ("RateLimit-Reset", str(math.ceil((burst - tokens) / rate))),
        ("RateLimit-Policy", f'{policy};serviceLevel="free"'),
    )
