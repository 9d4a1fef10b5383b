"""The circuit breaker for Novu: refuses calls while Novu refuses every row (key, quota or address), until a probe
succeeds.

A single refused call may be the fault of its own content, for example if a firewall before Novu dislikes a payload. So
a 401, 402, 403 or 404 trips the breaker only after a probe confirmed it.

While it refuses calls, no row is claimed, and claimed rows become PENDING again without counting the attempt. The log
has one line per outage, however many rows and probes fail.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

from dispatcher.models.call_result import CallResult
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger

FIRST_PROBE_SECONDS = 5.0
"""Time from the trip to the first probe."""
PROBE_INTERVAL_SECONDS = 30.0
"""Time between later probes of the same outage."""
HEALTH_CHECK_SECONDS = 15.0
"""Time between reports of Novu's health while calls are allowed."""
QUOTA_PROOF_SECONDS = 30.0
"""An acceptance within this time before a 402 of Novu shows that the quota is not spent."""

log = get_logger("circuit_breaker")


class CircuitBreaker:
    """Whether calls to Novu are allowed.

    A 401, 402, 403 or 404 trips it through `confirm` if the probe is refused too, a spent quota also without a probe.
    A network error, a 5xx or a 429 never trips it. It allows calls again when a later probe succeeds.

    `probe` returns whether Novu is reachable and refuses not every trigger. `check_health` is a cheaper one for idle
    times, by default the same. `first`, `later`: seconds before the first probe and between the next ones.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        check_health: Callable[[], Awaitable[bool]] | None = None,
        first: float = FIRST_PROBE_SECONDS,
        later: float = PROBE_INTERVAL_SECONDS,
    ) -> None:
        self.allows_calls = True
        self._probe = probe
        self._ask_health = check_health or probe
        self._first = first
        self._later = later
        self._tripped = asyncio.Event()
        self._succeeded = False
        # Reset only when Novu accepts a trigger: with a spent quota the probe succeeds and the next trigger fails.
        self._probes = 0
        self._confirming = asyncio.Lock()
        # Readings of `time.monotonic()`: start of the last probe that cleared a refusal, last acceptance, last trip.
        self._cleared_at = self._accepted_at = -inf
        self._tripped_at = inf

    async def confirm(self, refusal: CallResult) -> bool:
        """Return whether an account error concerns every row; then calls are refused from now on.

        One probe answers for all refusals that came before it began.
        """
        refused_at = time.monotonic()
        async with self._confirming:
            if not self.allows_calls:
                return True
            if not await self._is_cleared(refusal, refused_at):
                self.trip(refusal.detail, refusal.suspected)
                return True
        return False

    async def _is_cleared(self, refusal: CallResult, refused_at: float) -> bool:
        """Return whether Novu refuses not every row. A probe that began after the refusal is not repeated."""
        if self._may_be_quota(refusal):
            return False
        began = time.monotonic()
        if self._cleared_at < refused_at and await self._probe():
            self._cleared_at = began
            log.warning(
                "novu_refused_one_call",
                code=refusal.code,
                suspected=tuple(reversed(refusal.suspected)),
                effect="other calls go on; this one is split, or tried again and then a dead letter",
            )
        return self._cleared_at >= refused_at

    def _may_be_quota(self, refusal: CallResult) -> bool:
        """Whether Novu itself names its quota, which a probe cannot disprove; only an acceptance after a trip can."""
        if refusal.code != "http_402" or not refusal.from_novu:
            return False
        return not (self._accepted_at > self._tripped_at and self._accepted_at > time.monotonic() - QUOTA_PROOF_SECONDS)

    def trip(self, reason: str, suspected: tuple[str, ...] = ()) -> None:
        """Refuse calls from now on. `reason` starts with a code and a colon; the rest is only logged."""
        if self.allows_calls and self._probes == 0:
            log.error(
                "novu_gate_shut",
                reason=reason,
                suspected=suspected,
                effect="nothing is sent; rows stay PENDING until Novu accepts calls",
            )
        self.allows_calls = False
        self._tripped_at = time.monotonic()
        self._tripped.set()
        health.report_failure("novu", reason.partition(":")[0])  # without Novu's own text

    async def wait_tripped(self) -> None:
        """Return as soon as calls are refused."""
        await self._tripped.wait()

    def record_success(self) -> None:
        """Record that Novu accepted a trigger."""
        self._succeeded = True
        self._accepted_at = time.monotonic()
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
        healthy = succeeded or await self._ask_health()
        if not self.allows_calls:  # it tripped during the probe
            return
        if healthy:
            health.report_ok("novu")
        else:
            health.report_failure("novu", "does not answer, or rejects NOVU_SECRET_KEY")
