"""Changes rows in batches, and tries rows again that another transaction has locked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dispatcher.postgres.operator_rows import PreviewRow

LOCK_RETRIES = 8
"""How many times rows are tried that another transaction has locked."""
LOCK_RETRY_SECONDS = 0.25
"""The pause between two tries."""
CHANGE_BATCH_ROWS = 500
"""How many rows one statement changes, so that none stays locked for long."""

ChangeRows = Callable[[Sequence[PreviewRow]], Awaitable[list[int]]]
"""Changes the rows that are free and still as they were previewed; returns their ids."""


async def change_with_retry(
    change: ChangeRows, rows: Sequence[PreviewRow], on_batch: Callable[[int], None] = lambda _: None
) -> list[int]:
    """Change the rows and return the ids of those that were changed, in the order of the changes.

    Every try covers all rows that are left; after 8 tries, two seconds in all, the rest stays as it is. `on_batch` gets
    the number of rows changed so far, after each batch.
    """
    changed: list[int] = []
    left = list(rows)
    for attempt in range(LOCK_RETRIES):
        await asyncio.sleep(LOCK_RETRY_SECONDS if attempt else 0)
        for first in range(0, len(left), CHANGE_BATCH_ROWS):
            changed += await change(left[first : first + CHANGE_BATCH_ROWS])
            on_batch(len(changed))
        done = set(changed)
        left = [row for row in left if row.id not in done]
        if not left:
            break
    return changed
