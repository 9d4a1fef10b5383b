"""The activities of a run: acquire its rows, send them, settle them.

A repeated activity continues where the last one stopped: a settled recipient is never sent again, and a call whose
outcome is unknown is repeated unchanged or looked up. An activity raises only if another try can help.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from dispatcher.decisions.backoff import CALLS_PER_RUN, next_run_delay
from dispatcher.decisions.final_status import decide_status
from dispatcher.delivery.sender import LOCAL_CALLS_SECONDS, Sender, count_results, unsaved_members
from dispatcher.delivery.waiting import GO_ON_SECONDS
from dispatcher.models.notification import Notification, Recipient, RecipientState, RunLimits
from dispatcher.models.workflow_contract import DELIVER, GIVE_UP, THROTTLED, UNSETTLED, Batch, ResultCounts
from dispatcher.telemetry import metrics

if TYPE_CHECKING:
    from dispatcher.decisions.validation import AcquiredRow
    from dispatcher.novu.client import NovuClient
    from dispatcher.postgres.outbox import OutboxStore

LEASE_RENEWAL_SECONDS = 5.0
"""Longest time between two renewals of a run's lease; a shorter lease is renewed four times within its duration."""


@dataclass(slots=True)
class Unread:
    """The rows that a try has not read yet."""

    ids: list[int]
    since: datetime | None = None
    """The database's time when the try began to read; None: it has not."""

    def remove(self, acquired: Sequence["AcquiredRow"]) -> None:
        """Remove rows that were read. If none could be acquired, none of the others can."""
        read = {item.notification.id for item in acquired}
        self.ids = [each for each in self.ids if read and each not in read]
        if acquired and self.since is None:
            self.since = acquired[0].read_at


class DeliveryActivities:
    """The activities, with the clients that they use."""

    def __init__(self, outbox: "OutboxStore", novu: "NovuClient", limits: RunLimits) -> None:
        self._outbox = outbox
        self._novu = novu
        self._sender = Sender(outbox, novu, limits.lookup_time)
        self._limits = limits

    @activity.defn(name=DELIVER)
    async def deliver(self, batch: Batch) -> ResultCounts:
        """Send and settle the batch's unsettled recipients; return how its notifications ended.

        Raises ApplicationError of type `UNSETTLED` or `THROTTLED` if another try can settle more.
        """
        counts, left, unread = ResultCounts(), list[Notification](), Unread(batch.notification_ids)
        stop_at = time.monotonic() + LOCAL_CALLS_SECONDS if activity.info().is_local else math.inf
        while unread.ids:  # a batch of large rows is read and sent in parts
            rows = await self._acquire(unread, self._limits.max_runs)
            for row in rows:
                metrics.observe_first_run(row)
            with metrics.DELIVER.time():
                async with self._keep_lease(rows):
                    await self._deliver(rows, stop_at)
            counts += count_results(rows)
            left += [*unfinished(rows), *(row for row in rows if row.locked)]
        waiting = [each for row in left if not row.locked for each in row.recipients if not each.is_final]
        locked_rows = sum(row.locked for row in left)
        if waiting or locked_rows:
            await self._end_reading(left)
            raise retry_error(waiting, locked_rows)
        return counts

    async def _deliver(self, rows: Sequence[Notification], stop_at: float) -> None:
        """Send and settle these rows as far as that is possible until `stop_at`."""
        max_calls = CALLS_PER_RUN * self._limits.max_runs
        for row in rows:
            if row.has_unsettled_recipients and row.most_calls >= max_calls:
                row.validation_error = row.validation_error or f"{row.most_calls} calls ended without a final answer"
        await self._settle_finished(
            [row for row in rows if row.validation_error is not None or not row.has_unsettled_recipients]
        )
        rows = unfinished(rows)
        await self._sender.resolve_unknown(rows)
        await self._sender.send(rows, stop_at)
        if not self._novu.breaker.allows_calls:  # they wait as PENDING, and this attempt does not count
            await self._sender.release(unfinished(rows))

    @activity.defn(name=GIVE_UP)
    async def give_up(self, batch: Batch) -> ResultCounts:
        """End the run of the rows that are still unsettled: FAILED or PARTIAL, retried later or a dead letter.

        A row that only Novu's 409 or 429 stopped becomes PENDING again, and its attempt does not count.
        """
        counts, unread = ResultCounts(), Unread(batch.notification_ids)
        while unread.ids:
            # It sends nothing, so it reads no content: reading it may be what ended the tries.
            rows = await self._acquire(unread, 0)
            await self._give_up(rows)
            counts += count_results(rows)
        return counts

    async def _give_up(self, rows: Sequence[Notification]) -> None:
        handed_back = [row for row in rows if row.is_throttled]
        await self._sender.release(handed_back)
        rows = [row for row in rows if not row.is_throttled]
        for row in rows:
            for recipient in row.recipients:
                if recipient.state is RecipientState.SENDING:
                    recipient.state, recipient.unsaved = RecipientState.UNKNOWN, True
            row.final_status = decide_status(row, self._next_run_delay(row))
        if rows:
            await self._sender.settle(unsaved_members(rows), rows)
        if locked_rows := sum(row.locked for row in rows):
            raise retry_error([], locked_rows)

    def _next_run_delay(self, row: Notification) -> timedelta | None:
        """Return the wait until the row's next automatic run, or None if there is none."""
        if row.validation_error is not None or not row.has_unsettled_recipients:
            return None
        return next_run_delay(
            row.attempts, row.since_first_claim, max_runs=self._limits.max_runs, horizon=self._limits.retry_horizon
        )

    async def _acquire(self, unread: "Unread", last_attempt: int) -> list[Notification]:
        """Acquire as many of the rows as are read at once. Return those that may be sent.

        Rows that may not be sent now are released. A row that had too many runs gets a validation error. Of a row with
        more attempts than `last_attempt`, payload and overrides are not read.
        """
        workflow_id = activity.info().workflow_id or ""
        acquired = await self._outbox.acquire(unread.ids, workflow_id, self._limits.lease, last_attempt, unread.since)
        unread.remove(acquired)
        ineligible = [item.notification for item in acquired if not item.eligible]
        if ineligible:
            await self._outbox.release(ineligible)
        rows = [item.notification for item in acquired if item.eligible]
        for row in rows:
            if row.attempts > self._limits.max_runs:  # its last runs crashed before they could give up
                row.validation_error = row.validation_error or f"{row.attempts - 1} runs ended without an outcome"
        return rows

    async def _end_reading(self, rows: Sequence[Notification]) -> None:
        """Record that this process has not died of reading rows of which no call shows it."""
        fences = {row.id: row.fence for row in rows if not row.call_recorded}
        if fences:
            await self._outbox.end_reading(list(fences), list(fences.values()))

    async def _settle_finished(self, rows: Sequence[Notification]) -> None:
        """Settle rows for which no call is left to make."""
        for row in rows:
            row.final_status = decide_status(row, None)
        if rows:
            await self._sender.settle(unsaved_members(rows), rows)

    @asynccontextmanager
    async def _keep_lease(self, rows: Sequence[Notification]) -> AsyncGenerator[None]:
        """Renew the rows' lease and send Temporal heartbeats while the block runs.

        Only for a regular activity: a local one is shorter than a lease, and has no heartbeats.
        """
        if activity.info().is_local or not rows:
            yield
            return
        renewal = asyncio.create_task(self._renew_repeatedly(rows))
        try:
            yield
        finally:
            renewal.cancel()

    async def _renew_repeatedly(self, rows: Sequence[Notification]) -> None:
        ids, fences = [row.id for row in rows], [row.fence for row in rows]
        while True:
            await asyncio.sleep(min(LEASE_RENEWAL_SECONDS, self._limits.lease.total_seconds() / 4))
            activity.heartbeat(sum(row.final_status is not None for row in rows), len(rows))
            await self._outbox.renew_leases(ids, fences, self._limits.lease)


def unfinished(rows: Sequence[Notification]) -> list[Notification]:
    """Return the rows for which calls are left to make: without a final status, neither released nor locked."""
    return [row for row in rows if row.final_status is None and not row.released and not row.locked]


def retry_error(waiting: Sequence[Recipient], locked_rows: int = 0) -> ApplicationError:
    """Return the error that makes Temporal try again, after the longest wait of these recipients.

    If only rows are left that another transaction has locked, it does not count as a failed try. Its text holds outcome
    codes only: Temporal keeps it in the history, where no data of a row may be.
    """
    codes = sorted({recipient.outcome or "not sent" for recipient in waiting})
    waits = [recipient.retry_after for recipient in waiting]
    # Calls that a local activity left to the batch queue do not wait for slow ones: those are made to wait there.
    wait = GO_ON_SECONDS if GO_ON_SECONDS in waits else max(waits, default=0)
    parts = [f"{len(waiting)} recipients are not settled: {', '.join(codes)}"] if waiting else []
    parts += [f"{locked_rows} rows are locked by another transaction"] if locked_rows else []
    return ApplicationError(
        "; ".join(parts),
        activity.info().attempt - 1,  # tries that failed before; the workflow counts them over the whole run
        type=THROTTLED if all(recipient.throttled for recipient in waiting) else UNSETTLED,
        next_retry_delay=timedelta(seconds=wait) if wait else None,
        category=ApplicationErrorCategory.BENIGN,
    )
