"""Puts back the status of rows over whose outcome another program wrote a status that is no wish.

PENDING over an outcome means "send again", RETRACTED "take back". Any other status is replaced by that of the outcome,
once for each generation. After that the row is left as it is, and named in the log at each walk of the ledger.
"""

from collections.abc import Sequence

import psycopg

from dispatcher.models.claims import ForeignStatus
from dispatcher.postgres.halving import may_be_one_rows_fault, words_of
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.telemetry.logs import get_logger

HEADS_PER_SWEEP = 1000
"""Each sweep compares this many heads of the ledger with their rows. PROCESSING has an index and is found at once."""
MAX_LOGGED_ROWS = 20

log = get_logger("foreign_statuses")


class ForeignStatuses:
    """Walks the ledger of one node's rows, a part at each sweep. `heads`: the size of a part."""

    def __init__(self, outbox: OutboxStore, *, heads: int = HEADS_PER_SWEEP) -> None:
        self._outbox = outbox
        self._heads = heads
        self._walked_to = 0

    async def put_back(self) -> int:
        """Look at the next part of the ledger, and put statuses back; return how many."""
        found, self._walked_to = await self._outbox.find_foreign_statuses(self._walked_to, self._heads)
        put_back = await self._put_back([row for row in found if not row.was_put_back])
        if put_back:
            examples = examples_of([row for row in found if row.notification_id in put_back])
            log.warning("status_put_back", rows=len(put_back), examples=examples)
        if left := [row for row in found if row.was_put_back]:
            log.warning("foreign_status_left", rows=len(left), examples=examples_of(left))
        return len(put_back)

    async def _put_back(self, found: Sequence[ForeignStatus]) -> set[int]:
        """Write our statuses; return the ids of the rows that have them. If the table refuses one, halve down to it."""
        if not found:
            return set()
        try:
            return await self._outbox.put_statuses_back(found)
        except psycopg.Error as error:
            if not may_be_one_rows_fault(error):
                raise
            if len(found) > 1:
                half = len(found) // 2
                return await self._put_back(found[:half]) | await self._put_back(found[half:])
            await self._outbox.put_statuses_back(found, write=False)
            log.warning("foreign_status_left", rows=1, examples=examples_of(found), reason=words_of(error))
            return set()


def examples_of(rows: Sequence[ForeignStatus]) -> list[str]:
    """Return id, foreign status and our status of some of the rows."""
    return [f"{row.notification_id}: {row.theirs}, ours {row.ours}" for row in rows[:MAX_LOGGED_ROWS]]
