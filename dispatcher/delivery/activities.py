"""What a run does for its notifications: take them, have them sent, settle.

A run that is repeated goes on where the last one stopped: what is settled is never sent again, and a call whose outcome
is unknown is repeated as it was. Raises only for what another try can change.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from dispatcher.decisions.backoff import next_run_delay
from dispatcher.decisions.call_planning import Member
from dispatcher.decisions.final_status import decide_status
from dispatcher.delivery.sender import Sender, count_results
from dispatcher.models.notification import Notification, Recipient, RecipientState, RunLimits
from dispatcher.models.workflow_contract import DELIVER, GIVE_UP, THROTTLED, UNSETTLED, Batch, ResultCounts
from dispatcher.telemetry import metrics

if TYPE_CHECKING:
    from dispatcher.novu.client import NovuClient
    from dispatcher.postgres.outbox import OutboxStore

LEASE_RENEWAL_SECONDS = 5.0


class DeliveryActivities:
    """The activities, with what they need."""

    def __init__(self, outbox: "OutboxStore", novu: "NovuClient", limits: RunLimits) -> None:
        self._outbox = outbox
        self._novu = novu
        self._sender = Sender(outbox, novu)
        self._limits = limits

    @activity.defn(name=DELIVER)
    async def deliver(self, batch: Batch) -> ResultCounts:
        """Send what is unsettled; raise when another try can settle more."""
        tally, waiting = ResultCounts(), list[Recipient]()
        rest = batch.notification_ids
        while rest:  # a batch of large rows is sent in parts
            rows, rest = await self._acquire(rest)
            for row in rows:
                metrics.observe_first_run(row)
            with metrics.DELIVER.time():
                async with self._keep_lease(rows):
                    await self._deliver(rows)
            tally += count_results(rows)
            waiting += [recipient for row in unfinished(rows) for recipient in row.recipients if not recipient.is_final]
        if waiting:
            raise retry_error(waiting)
        return tally

    async def _deliver(self, rows: Sequence[Notification]) -> None:
        """Send what can be sent of these rows, and settle it."""
        await self._settle_finished(
            [row for row in rows if row.validation_error is not None or not row.has_unsettled_recipients]
        )
        rows = unfinished(rows)
        await self._sender.resolve_unknown(rows)
        await self._sender.send(rows)
        if not self._novu.breaker.allows_calls:  # not their fault: they wait as PENDING, and this run does not count
            await self._sender.release(unfinished(rows))

    @activity.defn(name=GIVE_UP)
    async def give_up(self, batch: Batch) -> ResultCounts:
        """End the run for what is still unsettled: FAILED or PARTIAL, tried again later or a dead letter."""
        tally = ResultCounts()
        rest = batch.notification_ids
        while rest:
            rows, rest = await self._acquire(rest)
            await self._give_up(rows)
            tally += count_results(rows)
        return tally

    async def _give_up(self, rows: Sequence[Notification]) -> None:
        members: list[Member] = []
        for row in rows:
            for recipient in row.recipients:
                if recipient.state is RecipientState.SENDING:
                    recipient.state = RecipientState.UNKNOWN
                    members.append(Member(row, recipient))
            row.final_status = decide_status(row, self._next_run_delay(row))
        if rows:
            await self._sender.settle(members, rows)

    def _next_run_delay(self, row: Notification) -> timedelta | None:
        """Return the wait until the row's next automatic run; None when nothing is left to try."""
        if row.validation_error is not None or not row.has_unsettled_recipients:
            return None
        return next_run_delay(
            row.attempts, row.since_first_claim, max_runs=self._limits.max_runs, horizon=self._limits.retry_horizon
        )

    async def _acquire(self, ids: list[int]) -> tuple[list[Notification], list[int]]:
        """Take as many of the rows as are read at once, and return the ids of the others; hand back what is closed."""
        workflow_id = activity.info().workflow_id or ""
        taken = await self._outbox.acquire(ids, workflow_id, self._limits.lease)
        rest = [notification_id for notification_id in ids if taken and notification_id > taken[-1].notification.id]
        closed = [item.notification for item in taken if not item.eligible]
        if closed:
            await self._outbox.release(closed)
        rows = [item.notification for item in taken if item.eligible]
        for row in rows:
            if row.attempts > self._limits.max_runs:  # each earlier run ended without giving up: crash after crash
                row.validation_error = row.validation_error or f"{row.attempts - 1} runs ended without an outcome"
        return rows, rest

    async def _settle_finished(self, rows: Sequence[Notification]) -> None:
        """End rows for which no call is left to make."""
        for row in rows:
            row.final_status = decide_status(row, None)
        if rows:
            await self._sender.settle([], rows)

    @asynccontextmanager
    async def _keep_lease(self, rows: Sequence[Notification]) -> AsyncGenerator[None]:
        """Keep the lease and tell Temporal that we live, while the block runs on the lane."""
        if activity.info().is_local or not rows:
            yield
            return
        beat = asyncio.create_task(self._renew_repeatedly(rows))
        try:
            yield
        finally:
            beat.cancel()

    async def _renew_repeatedly(self, rows: Sequence[Notification]) -> None:
        ids, fences = [row.id for row in rows], [row.fence for row in rows]
        while True:
            await asyncio.sleep(min(LEASE_RENEWAL_SECONDS, self._limits.lease.total_seconds() / 4))
            activity.heartbeat(sum(row.final_status is not None for row in rows), len(rows))
            await self._outbox.renew_leases(ids, fences, self._limits.lease)


def unfinished(rows: Sequence[Notification]) -> list[Notification]:
    """Return the rows that we hold and that have no outcome yet."""
    return [row for row in rows if row.final_status is None and not row.released]


def retry_error(waiting: Sequence[Recipient]) -> ApplicationError:
    """Return what tells Temporal to try again, after the wait Novu asked for. Carries codes only, no row's data."""
    codes = sorted({recipient.outcome or "not sent" for recipient in waiting})
    wait = max(recipient.retry_after for recipient in waiting)
    return ApplicationError(
        f"{len(waiting)} recipients are not settled: {', '.join(codes)}",
        type=THROTTLED if all(recipient.throttled for recipient in waiting) else UNSETTLED,
        next_retry_delay=timedelta(seconds=wait) if wait else None,
        category=ApplicationErrorCategory.BENIGN,
    )
