"""The gate before Novu: shut while Novu refuses us as a whole (key, quota, address), opened again by a probe.

While it is shut nothing is claimed, and rows in work go back as they came: it is not their fault. One line in the log
tells when it shuts, however many rows and probes meet it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger

FIRST_PROBE_SECONDS = 5.0
PROBE_SECONDS = 30.0
WATCH_SECONDS = 15.0

log = get_logger("gate")


class Gate:
    """Whether Novu takes anything from us at all. `welcome` asks it."""

    def __init__(
        self,
        welcome: Callable[[], Awaitable[bool]],
        *,
        first: float = FIRST_PROBE_SECONDS,
        later: float = PROBE_SECONDS,
    ) -> None:
        self.open = True
        self._welcome = welcome
        self._first = first
        self._later = later
        self._shut = asyncio.Event()
        self._proven = False
        # Counted until something is accepted: a quota that is spent refuses triggers but welcomes the probe.
        self._probes = 0

    def shut(self, reason: str) -> None:
        """Let nothing through any more."""
        if self.open and self._probes == 0:
            log.error("novu_gate_shut", reason=reason, effect="nothing is sent; rows stay PENDING until it opens")
        self.open = False
        self._shut.set()
        health.broken("novu", reason.partition(":")[0])  # what Novu says of it stays in the log

    async def until_shut(self) -> None:
        """Return when it is shut."""
        await self._shut.wait()

    def prove(self) -> None:
        """Say that Novu accepted something."""
        self._proven = True
        if self.open and self._probes:
            log.info("novu_accepts_again")
            self._probes = 0

    async def run(self, wake: asyncio.Event) -> None:
        """Probe while it is shut; open it when Novu is back, and wake the door."""
        while True:
            await self._watch()
            await asyncio.sleep(self._later if self._probes else self._first)
            self._probes += 1
            if await self._welcome():
                self._shut.clear()
                self.open = True
                wake.set()

    async def _watch(self) -> None:
        """Return when it shuts. Until then look now and then whether Novu is there: nobody else does when idle.

        Whole is what stayed open for a while: a spent quota lets the probe in, and refuses what comes after it.
        """
        while not self._shut.is_set():
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await self.until_shut()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        proven, self._proven = self._proven, False
        works = proven or await self._welcome()
        if not self.open:  # it shut while we asked
            return
        if works:
            health.whole("novu")
        else:
            health.broken("novu", "does not answer, or does not take our key")
