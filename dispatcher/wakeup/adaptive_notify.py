"""Keeps producers from ringing while this node looks by itself, without ever losing a wake-up.

A NOTIFY in a committing transaction costs the whole cluster its group commit. So the trigger rings only when every node
sleeps: a busy node says in its row that it is awake, and polls. Falling asleep is the delicate part, because a producer
may have read "awake" and commit only later:

1. say that we sleep, and commit that;
2. note the newest transaction there is;
3. go on draining until every transaction older than that has ended: whoever could have read "awake" has;
4. drain once more, and wait for the bell.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from dispatcher.postgres.outbox import OutboxStore

RENEW_AWAKE_SECONDS = 0.5
"""A quarter of the time a node's word is believed: one claim of a busy node may take long."""
IDLE_AFTER_SECONDS = 0.2
BUSY_POLL_SECONDS = 0.02
FIRST_PAUSE, MAX_PAUSE = 0.005, 0.25
ASLEEP = float("-inf")

ClaimAllDue = Callable[[], Awaitable[bool]]
"""Starts everything that is due; returns whether that was a backlog: for a few rows a ring costs less than a poll."""


class AdaptiveNotify:
    """The bell of one node: muffled while it is up, answered while it sleeps."""

    def __init__(self, outbox: OutboxStore, wake: asyncio.Event, claim_all_due: ClaimAllDue) -> None:
        self._outbox = outbox
        self._wake = wake
        self._claim_all_due = claim_all_due
        self._renewed = ASLEEP
        self.may_have_suppressed = False
        """Whether a producer may have read "awake" since this node last fell asleep: then `stay_up` is due."""
        self._stopping = False

    @property
    def is_marked_awake(self) -> bool:
        """Whether the last thing said to producers is that this node is up."""
        return self._renewed > ASLEEP

    def stop(self) -> None:
        """End `stay_up` soon: this node goes, and with it its word."""
        self._stopping = True

    async def mark_awake(self) -> None:
        """Say that this node is up, and say so again before it is no longer believed."""
        now = time.monotonic()
        if now - self._renewed > RENEW_AWAKE_SECONDS:
            self.may_have_suppressed = True
            self._renewed = now
            await self._outbox.mark_awake()

    async def poll_until_idle(self) -> None:
        """Poll with a muffled bell while there is work, then fall asleep: from here on every commit rings again."""
        while not self._stopping:
            await self._poll_while_busy()
            if await self.mark_asleep_safely():
                return

    async def _poll_while_busy(self) -> None:
        """Drain until there was no backlog for a while."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < IDLE_AFTER_SECONDS and not self._stopping:
            await self.mark_awake()
            if await self._claim_all_due():
                quiet_since = time.monotonic()
            await asyncio.sleep(BUSY_POLL_SECONDS)

    async def mark_asleep_safely(self) -> bool:
        """Take the four steps; False when producers rang so much meanwhile that it is better to stay up."""
        self._renewed = ASLEEP
        await self._outbox.mark_asleep()
        newest = await self._outbox.snapshot_xmax()
        pause = FIRST_PAUSE
        while not self._stopping and not await self._outbox.all_ended_before(newest):
            self._wake.clear()
            backlog = await self._claim_all_due()
            if self.is_marked_awake or (backlog and self._wake.is_set()):
                return False
            await self._wait(pause)
            pause = min(2 * pause, MAX_PAUSE)
        self._wake.clear()  # what is heard from here on, and not what once woke us, is a reason to stay up
        await self._claim_all_due()
        self.may_have_suppressed = self.is_marked_awake
        return not self.may_have_suppressed

    async def _wait(self, seconds: float) -> None:
        """Wait, but not past a wake-up."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
