"""The runs that this process has started and whose first try has not ended: rows that are due meanwhile gather.

A workflow costs the server 10 to 20 ms of processor time however much it carries. So the claim loop waits for the end
of these tries, and the next claim takes all rows that have gathered. The wait is short: a slow call delays no other
claim by more than that.
"""

import asyncio
import time
from collections.abc import Iterable

GATHER_SECONDS = 0.3
"""Longest wait after the last start, where the first tries run in this process."""
BLIND_GATHER_SECONDS = 0.05
"""The wait of a process without workers: it never learns that a try has ended."""


class RunsInFlight:
    """Workflow ids of runs whose first try has not ended. `seconds`: after the last start, they are forgotten."""

    def __init__(self, seconds: float = GATHER_SECONDS) -> None:
        self._seconds = seconds
        self._ids: set[str] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._last_start = 0.0
        self._stopping = False

    def add(self, workflow_ids: Iterable[str]) -> None:
        """Note runs that are about to be started."""
        self._ids.update(workflow_ids)
        self._last_start = time.monotonic()
        if self._ids and not self._stopping:
            self._none.clear()

    def remove(self, workflow_id: str) -> None:
        """Note that the first try of a run has ended, or that its start failed. Unknown ids are ignored."""
        self._ids.discard(workflow_id)
        if not self._ids:
            self._none.set()

    def stop(self) -> None:
        """Make no claim wait any more, because this process stops."""
        self._stopping = True
        self._none.set()

    async def wait_until_none(self) -> bool:
        """Return when no run is in flight, or when the time after the last start is over. Return whether it waited."""
        if self._none.is_set():
            return False
        left = self._last_start + self._seconds - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0)):
                await self._none.wait()
        except TimeoutError:
            self._ids.clear()
            self._none.set()
        return left > 0
