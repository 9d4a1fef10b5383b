"""The gate before Novu: shut while Novu refuses us as a whole (key, quota, address), opened again by a probe.

While it is shut nothing is claimed, and rows in work go back as they came: it is not their fault. One line in the log
tells when it shuts, however many rows and probes meet it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger

FIRST_PROBE_SECONDS = 5.0
PROBE_INTERVAL_SECONDS = 30.0
HEALTH_CHECK_SECONDS = 15.0

log = get_logger("circuit_breaker")


class CircuitBreaker:
    """Whether Novu takes anything from us at all. `welcome` asks it."""

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
        # Counted until something is accepted: a quota that is spent refuses triggers but welcomes the probe.
        self._probes = 0

    def trip(self, reason: str) -> None:
        """Let nothing through any more."""
        if self.allows_calls and self._probes == 0:
            log.error("novu_gate_shut", reason=reason, effect="nothing is sent; rows stay PENDING until it opens")
        self.allows_calls = False
        self._tripped.set()
        health.report_failure("novu", reason.partition(":")[0])  # what Novu says of it stays in the log

    async def wait_tripped(self) -> None:
        """Return when it is shut."""
        await self._tripped.wait()

    def record_success(self) -> None:
        """Say that Novu accepted something."""
        self._succeeded = True
        if self.allows_calls and self._probes:
            log.info("novu_accepts_again")
            self._probes = 0

    async def run(self, wake: asyncio.Event) -> None:
        """Probe while it is shut; open it when Novu is back, and wake the door."""
        while True:
            await self._check_until_tripped()
            await asyncio.sleep(self._later if self._probes else self._first)
            self._probes += 1
            if await self._probe():
                self._tripped.clear()
                self.allows_calls = True
                wake.set()

    async def _check_until_tripped(self) -> None:
        """Return when it shuts. Until then look now and then whether Novu is there: nobody else does when idle.

        Whole is what stayed open for a while: a spent quota lets the probe in, and refuses what comes after it.
        """
        while not self._tripped.is_set():
            try:
                async with asyncio.timeout(HEALTH_CHECK_SECONDS):
                    await self.wait_tripped()
            except TimeoutError:
                await self._check_health()

    async def _check_health(self) -> None:
        proven, self._succeeded = self._succeeded, False
        works = proven or await self._probe()
        if not self.allows_calls:  # it shut while we asked
            return
        if works:
            health.report_ok("novu")
        else:
            health.report_failure("novu", "does not answer, or does not take our key")
