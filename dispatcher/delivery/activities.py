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

from dispatcher.decisions.backoff import next_run
from dispatcher.decisions.call_planning import Member
from dispatcher.decisions.final_status import conclude
from dispatcher.delivery.sender import Sender, tallied
from dispatcher.models.notification import Notification, Policy, Recipient, State
from dispatcher.models.workflow_contract import DELIVER, GIVE_UP, HELD, UNSETTLED, Batch, Tally
from dispatcher.telemetry import metrics

if TYPE_CHECKING:
    from dispatcher.novu.client import NovuGateway
    from dispatcher.postgres.outbox import Outbox

BEAT_SECONDS = 5.0


class Deliveries:
    """The activities, with what they need."""

    def __init__(self, outbox: "Outbox", novu: "NovuGateway", policy: Policy) -> None:
        self._outbox = outbox
        self._novu = novu
        self._sender = Sender(outbox, novu)
        self._policy = policy

    @activity.defn(name=DELIVER)
    async def deliver(self, batch: Batch) -> Tally:
        """Send what is unsettled; raise when another try can settle more."""
        tally, waiting = Tally(), list[Recipient]()
        rest = batch.notification_ids
        while rest:  # a batch of large rows is sent in parts
            rows, rest = await self._take(rest)
            for row in rows:
                metrics.count_begun(row)
            with metrics.DELIVER.time():
                async with self._holding(rows):
                    await self._deliver(rows)
            tally += tallied(rows)
            waiting += [recipient for row in unfinished(rows) for recipient in row.recipients if not recipient.settled]
        if waiting:
            raise another_try(waiting)
        return tally

    async def _deliver(self, rows: Sequence[Notification]) -> None:
        """Send what can be sent of these rows, and settle it."""
        await self._conclude([row for row in rows if row.refusal is not None or not row.unsettled])
        rows = unfinished(rows)
        await self._sender.clear_up(rows)
        await self._sender.send(rows)
        if not self._novu.gate.open:  # not their fault: they wait as PENDING, and this run does not count
            await self._sender.hand_back(unfinished(rows))

    @activity.defn(name=GIVE_UP)
    async def give_up(self, batch: Batch) -> Tally:
        """End the run for what is still unsettled: FAILED or PARTIAL, tried again later or a dead letter."""
        tally = Tally()
        rest = batch.notification_ids
        while rest:
            rows, rest = await self._take(rest)
            await self._give_up(rows)
            tally += tallied(rows)
        return tally

    async def _give_up(self, rows: Sequence[Notification]) -> None:
        members: list[Member] = []
        for row in rows:
            for recipient in row.recipients:
                if recipient.state is State.SENDING:
                    recipient.state = State.UNKNOWN
                    members.append(Member(row, recipient))
            row.conclusion = conclude(row, self._next_run(row))
        if rows:
            await self._sender.settle(members, rows)

    def _next_run(self, row: Notification) -> timedelta | None:
        """Return the wait until the row's next automatic run; None when nothing is left to try."""
        if row.refusal is not None or not row.unsettled:
            return None
        return next_run(row.attempts, row.age, max_runs=self._policy.max_runs, horizon=self._policy.retry_horizon)

    async def _take(self, ids: list[int]) -> tuple[list[Notification], list[int]]:
        """Take as many of the rows as are read at once, and return the ids of the others; hand back what is closed."""
        workflow_id = activity.info().workflow_id or ""
        taken = await self._outbox.take(ids, workflow_id, self._policy.lease)
        rest = [notification_id for notification_id in ids if taken and notification_id > taken[-1].notification.id]
        closed = [item.notification for item in taken if not item.open]
        if closed:
            await self._outbox.hand_back(closed)
        rows = [item.notification for item in taken if item.open]
        for row in rows:
            if row.attempts > self._policy.max_runs:  # each earlier run ended without giving up: crash after crash
                row.refusal = row.refusal or f"{row.attempts - 1} runs ended without an outcome"
        return rows, rest

    async def _conclude(self, rows: Sequence[Notification]) -> None:
        """End rows for which no call is left to make."""
        for row in rows:
            row.conclusion = conclude(row, None)
        if rows:
            await self._sender.settle([], rows)

    @asynccontextmanager
    async def _holding(self, rows: Sequence[Notification]) -> AsyncGenerator[None]:
        """Keep the lease and tell Temporal that we live, while the block runs on the lane."""
        if activity.info().is_local or not rows:
            yield
            return
        beat = asyncio.create_task(self._beat(rows))
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, rows: Sequence[Notification]) -> None:
        ids, fences = [row.id for row in rows], [row.fence for row in rows]
        while True:
            await asyncio.sleep(min(BEAT_SECONDS, self._policy.lease.total_seconds() / 4))
            activity.heartbeat(sum(row.conclusion is not None for row in rows), len(rows))
            await self._outbox.renew(ids, fences, self._policy.lease)


def unfinished(rows: Sequence[Notification]) -> list[Notification]:
    """Return the rows that we hold and that have no outcome yet."""
    return [row for row in rows if row.conclusion is None and not row.handed_back]


def another_try(waiting: Sequence[Recipient]) -> ApplicationError:
    """Return what tells Temporal to try again, after the wait Novu asked for. Carries codes only, no row's data."""
    codes = sorted({recipient.outcome or "not sent" for recipient in waiting})
    wait = max(recipient.retry_after for recipient in waiting)
    return ApplicationError(
        f"{len(waiting)} recipients are not settled: {', '.join(codes)}",
        type=HELD if all(recipient.held for recipient in waiting) else UNSETTLED,
        next_retry_delay=timedelta(seconds=wait) if wait else None,
        category=ApplicationErrorCategory.BENIGN,
    )
