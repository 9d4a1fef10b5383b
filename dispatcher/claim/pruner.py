"""Prunes the ledger while a dispatcher runs: it walks through all heads in small steps, and begins again every hour.

Of all nodes that sweep, one prunes. An error never concerns the delivery: the walk ends, and the next one goes on.
"""

import asyncio

from psycopg.errors import InsufficientPrivilege

from dispatcher.postgres.periodic import run_every
from dispatcher.postgres.pruning import BEFORE_ALL_IDS, LedgerPruning
from dispatcher.telemetry.logs import get_logger

WALK_INTERVAL_SECONDS = 3600.0
FIRST_WALK_SECONDS = 60.0
"""By then the nodes know each other, so that only one of them walks."""
STEP_PAUSE_SECONDS = 0.5
"""Between two steps. A step takes about 10 ms, so pruning uses a fiftieth of a connection."""

log = get_logger("pruner")


class Pruner:
    """Prunes for one node."""

    def __init__(self, pruning: LedgerPruning, *, step_pause: float = STEP_PAUSE_SECONDS) -> None:
        self._pruning = pruning
        self._step_pause = step_pause
        self._may_prune = True

    async def run(self) -> None:
        """Walk through the ledger about once an hour."""
        await asyncio.sleep(FIRST_WALK_SECONDS)
        await run_every(WALK_INTERVAL_SECONDS, self.run_once, component=None, failure_event="pruning_failed")

    async def run_once(self) -> tuple[int, int]:
        """Walk through the ledger once; return how many recipients and heads were deleted."""
        recipients, heads, after = 0, 0, BEFORE_ALL_IDS
        try:
            while after is not None:
                step = await self._pruning.prune(after)
                recipients, heads, after = recipients + step.recipients, heads + step.heads, step.walked_to
                await asyncio.sleep(self._step_pause)
        except InsufficientPrivilege as error:
            if self._may_prune:
                log.warning("ledger_not_pruned", error=str(error), remedy="grant what dispatcher db sql grants prints")
            self._may_prune = False
            return 0, 0
        self._may_prune = True
        if recipients or heads:
            log.info("ledger_pruned", recipients=recipients, heads=heads)
        return recipients, heads
