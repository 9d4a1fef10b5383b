"""Adaptive NOTIFY: keeps the triggers from sending NOTIFY while this node polls, without ever losing a wake-up.

A NOTIFY in a committing transaction costs the whole cluster its group commit. So the trigger sends it only while every
node is asleep: a busy node writes "awake" into its row and polls. To fall asleep is delicate, because a producer may
have read "awake" and commit only later. The node takes four steps:

1. write "asleep", and commit;
2. read M = pg_snapshot_xmax(pg_current_snapshot()), an id above every transaction that has begun to write;
3. claim again and again until every transaction below M has ended: then all producers that read "awake" have committed;
4. claim once more, and wait for a NOTIFY.

    ASLEEP --mark_awake--> AWAKE --step 1--> FALLING_ASLEEP --step 4--> ASLEEP
                             ^                     |
                             +-----mark_awake------+
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from dispatcher.models.claims import ClaimResult
from dispatcher.postgres.outbox import OutboxStore

RENEW_AWAKE_SECONDS = 0.5
"""The triggers believe "awake" for 2 s. A node renews it four times as often, because one claim may take long."""
IDLE_AFTER_SECONDS = 0.2
BUSY_POLL_SECONDS = 0.02
FIRST_PAUSE, MAX_PAUSE = 0.005, 0.25
"""Seconds between the claims of step 3: the pause doubles, because a foreign transaction may stay open for hours."""
NEVER = float("-inf")

ClaimAllDue = Callable[[], Awaitable[ClaimResult]]


class NodeState(Enum):
    """Whether producers may have been told that this node polls."""

    ASLEEP = auto()
    """Every commit sends NOTIFY."""
    AWAKE = auto()
    """The node's row says "awake": no trigger sends NOTIFY."""
    FALLING_ASLEEP = auto()
    """The row says "asleep", but a producer that read "awake" may still commit without NOTIFY."""


class AdaptiveNotify:
    """Suppresses the triggers' NOTIFY for one node. `claim_all_due` claims and starts everything that is due."""

    def __init__(self, outbox: OutboxStore, wake: asyncio.Event, claim_all_due: ClaimAllDue) -> None:
        self._state = NodeState.ASLEEP
        self._outbox = outbox
        self._wake = wake
        self._claim_all_due = claim_all_due
        self._renewed_at = NEVER
        self._stopping = False

    @property
    def state(self) -> NodeState:
        """Whether producers may have been told that this node polls."""
        return self._state

    def stop(self) -> None:
        """Make `poll_until_idle` return soon, because this node stops."""
        self._stopping = True

    async def mark_awake(self) -> None:
        """Write "awake", at most every 0.5 s."""
        now = time.monotonic()
        if now - self._renewed_at > RENEW_AWAKE_SECONDS:
            self._state = NodeState.AWAKE
            self._renewed_at = now
            await self._outbox.mark_awake()

    async def poll_until_idle(self) -> None:
        """Poll with NOTIFY suppressed while there is a backlog, then fall asleep: every commit sends NOTIFY again."""
        while not self._stopping:
            await self._poll_while_busy()
            if await self.mark_asleep_safely():
                return

    async def _poll_while_busy(self) -> None:
        """Claim after the runs of each claim, or every 20 ms, until no claim has found a backlog for 0.2 s."""
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_AFTER_SECONDS and not self._stopping:
            await self.mark_awake()
            result = await self._claim_all_due()
            if result.backlog:
                idle_since = time.monotonic()
            # While runs are in flight, the next claim waits for them anyway.
            await asyncio.sleep(0 if result.rows and not result.is_full else BUSY_POLL_SECONDS)

    async def mark_asleep_safely(self) -> bool:
        """Take the four steps. Return False if the node should poll on: producers commit faster than it claims."""
        self._state = NodeState.FALLING_ASLEEP
        self._renewed_at = NEVER
        await self._outbox.mark_asleep()
        newest = await self._outbox.snapshot_xmax()
        pause = FIRST_PAUSE
        while not self._stopping and not await self._outbox.all_ended_before(newest):
            self._wake.clear()
            result = await self._claim_all_due()
            if self.state is NodeState.AWAKE or (result.backlog and self._wake.is_set()):
                return False
            await self._wait(pause)
            pause = min(2 * pause, MAX_PAUSE)
        self._wake.clear()  # only a NOTIFY from here on is a reason to stay awake, not an earlier one
        await self._claim_all_due()
        if self.state is NodeState.FALLING_ASLEEP:
            self._state = NodeState.ASLEEP
        return self.state is NodeState.ASLEEP

    async def _wait(self, seconds: float) -> None:
        """Wait, but not past a wake-up."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
