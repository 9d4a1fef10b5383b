"""The circuit breaker for Novu: refuses calls while Novu refuses every row (key, quota or address), until a probe
succeeds.

While it refuses calls, no row is claimed, and claimed rows become PENDING again without counting the attempt. The log
has one line per outage, however many rows and probes fail.
"""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger

FIRST_PROBE_SECONDS = 5.0
"""Time from the trip to the first probe."""
PROBE_INTERVAL_SECONDS = 30.0
"""Time between later probes of the same outage."""
HEALTH_CHECK_SECONDS = 15.0
"""Time between reports of Novu's health while calls are allowed."""

log = get_logger("circuit_breaker")


class CircuitBreaker:
    """Whether calls to Novu are allowed.

    `probe` returns whether Novu is reachable and accepts our key. `first`, `later`: seconds before the first probe and
    between the next ones.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        first: float = FIRST_PROBE_SECONDS,
        later: float = PROBE_INTERVAL_SECONDS,
    ) -> None:
        self.allows_calls = True
        self._probe = probe
        self._first = first
        self._later = later
        self._tripped = asyncio.Event()
        self._succeeded = False
        # Reset only when Novu accepts a trigger: with a spent quota the probe succeeds and the next trigger fails.
        self._probes = 0

    def trip(self, reason: str) -> None:
        """Refuse calls from now on. `reason` starts with a code and a colon; the rest is only logged."""
        if self.allows_calls and self._probes == 0:
            log.error(
                "novu_gate_shut", reason=reason, effect="nothing is sent; rows stay PENDING until Novu accepts calls"
            )
        self.allows_calls = False
        self._tripped.set()
        health.report_failure("novu", reason.partition(":")[0])  # without Novu's own text

    async def wait_tripped(self) -> None:
        """Return as soon as calls are refused."""
        await self._tripped.wait()

    def record_success(self) -> None:
        """Record that Novu accepted a trigger."""
        self._succeeded = True
        if self.allows_calls and self._probes:
            log.info("novu_accepts_again")
            self._probes = 0

    async def run(self, wake: asyncio.Event) -> None:
        """Probe while calls are refused. When a probe succeeds, allow calls and set `wake` for the claim loop."""
        while True:
            await self._check_until_tripped()
            await asyncio.sleep(self._later if self._probes else self._first)
            self._probes += 1
            if await self._probe():
                self._tripped.clear()
                self.allows_calls = True
                wake.set()

    async def _check_until_tripped(self) -> None:
        """Return when the breaker trips. Until then report Novu's health every 15 s: an idle node makes no calls.

        Novu is reported healthy only if nothing was refused for 15 s: with a spent quota the probe succeeds and the
        next trigger fails.
        """
        while not self._tripped.is_set():
            try:
                async with asyncio.timeout(HEALTH_CHECK_SECONDS):
                    await self.wait_tripped()
            except TimeoutError:
                await self._check_health()

    async def _check_health(self) -> None:
        succeeded, self._succeeded = self._succeeded, False
        healthy = succeeded or await self._probe()
        if not self.allows_calls:  # it tripped during the probe
            return
        if healthy:
            health.report_ok("novu")
        else:
            health.report_failure("novu", "does not answer, or rejects NOVU_SECRET_KEY")
