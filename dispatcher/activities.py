"""What a run does for its notifications: take them, write down each call before it leaves, call Novu, settle.

A run that is repeated goes on where the last one stopped: what is settled is never sent again, and a call whose outcome
is unknown is repeated as it was. Raises only for what another try can change.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from dispatcher.backoff import next_run
from dispatcher.conclusions import conclude
from dispatcher.doubts import Step, doubtful, next_step, resolve, settle_wait
from dispatcher.logs import get_logger
from dispatcher.models import DELIVER, GIVE_UP, Batch, Notification, Policy, State, Tally
from dispatcher.outcomes import apply
from dispatcher.planning import Call, Member, plan

if TYPE_CHECKING:
    from dispatcher.novu import NovuGateway
    from dispatcher.outbox import Outbox

PARALLEL_CALLS = 10
HOT_CALL_SECONDS = 5.0
"""Below the local activity's own limit, so that a slow answer is written down as unknown."""
LANE_CALL_SECONDS = 40.0
"""Novu may take 30 s."""
LOOK_UP_SECONDS = 10.0
BEAT_SECONDS = 5.0
LOGGED_ROWS = 20
"""A batch names so many of its failures one by one; the ledger has them all."""

log = get_logger("deliver")


class Deliveries:
    """The activities, with what they need."""

    def __init__(self, outbox: "Outbox", novu: "NovuGateway", policy: Policy) -> None:
        self._outbox = outbox
        self._novu = novu
        self._policy = policy

    @activity.defn(name=DELIVER)
    async def deliver(self, batch: Batch) -> Tally:
        """Send what is unsettled; raise when another try can settle more."""
        rows = await self._take(batch)
        async with self._holding(rows):
            await self._refuse([row for row in rows if row.refusal is not None])
            await self._clear_up([row for row in rows if row.refusal is None])
            calls = plan(row for row in rows if row.conclusion is None)
            for first in range(0, len(calls), PARALLEL_CALLS):
                if self._novu.gate.open:
                    await self._send(calls[first : first + PARALLEL_CALLS])
            if not self._novu.gate.open:  # not their fault: they wait as PENDING, and this run does not count
                await self._hand_back(unfinished(rows))
        if waiting := unfinished(rows):
            raise another_try(waiting)
        return told(rows)

    @activity.defn(name=GIVE_UP)
    async def give_up(self, batch: Batch) -> Tally:
        """End the run for what is still unsettled: FAILED or PARTIAL, tried again later or a dead letter."""
        rows = await self._take(batch)
        members: list[Member] = []
        for row in rows:
            for recipient in row.recipients:
                if recipient.state is State.SENDING:
                    recipient.state = State.UNKNOWN
                    members.append(Member(row, recipient))
            row.conclusion = conclude(row, self._next_run(row))
        if rows:
            await self._outbox.settle(members, rows)
        return told(rows)

    def _next_run(self, row: Notification) -> timedelta | None:
        """Return the wait until the row's next automatic run; None when nothing is left to try."""
        if row.refusal is not None or not row.unsettled:
            return None
        return next_run(row.attempts, row.age, max_runs=self._policy.max_runs, horizon=self._policy.retry_horizon)

    async def _take(self, batch: Batch) -> list[Notification]:
        """Take the batch's rows; hand those back that may not be sent now."""
        workflow_id = activity.info().workflow_id or ""
        taken = await self._outbox.take(batch.notification_ids, workflow_id, self._policy.lease)
        closed = [item.notification for item in taken if not item.open]
        if closed:
            await self._outbox.hand_back(closed)
        rows = [item.notification for item in taken if item.open]
        for row in rows:
            if row.attempts > self._policy.max_runs:  # each earlier run ended without giving up: crash after crash
                row.refusal = row.refusal or f"{row.attempts - 1} runs ended without an outcome"
        return rows

    async def _refuse(self, rows: Sequence[Notification]) -> None:
        """Conclude rows that can never be sent as they are."""
        for row in rows:
            row.conclusion = conclude(row, None)
        if rows:
            await self._outbox.settle([], rows)

    async def _clear_up(self, rows: Sequence[Notification]) -> None:
        """Learn from Novu what became of calls that cannot be repeated as they were; let the youngest of them wait."""
        honoured = self._novu.honours_keys is not False
        ripe: list[Member] = []
        for call in doubtful(rows, honoured=honoured):
            # Many questions do not fit into a local activity: they are the lane's.
            if activity.info().is_local or next_step(call, honoured=honoured) is Step.WAIT:
                for member in call.members:
                    member.recipient.retry_after = max(settle_wait(call), 1.0)
            else:
                ripe += call.members
        for first in range(0, len(ripe), PARALLEL_CALLS):
            if not self._novu.gate.open:
                return
            some = ripe[first : first + PARALLEL_CALLS]
            answers = await asyncio.gather(*(self._novu.look_up(member.event, LOOK_UP_SECONDS) for member in some))
            for member, answer in zip(some, answers, strict=True):
                resolve(member, answer)
            await self._settle([member for member in some if member.recipient.state is not State.PLANNED])

    async def _send(self, calls: list[Call]) -> None:
        """Make the calls at once and write down what became of them."""
        calls = await self._permitted(calls)
        within = HOT_CALL_SECONDS if activity.info().is_local else LANE_CALL_SECONDS
        answers = await asyncio.gather(
            *(self._novu.trigger([member.event for member in call.members], call.key, within) for call in calls)
        )
        members = [member for call in calls for member in call.members]
        for member, outcome in zip(members, itertools.chain.from_iterable(answers), strict=True):
            apply(member.recipient, outcome)
        await self._settle(members)

    async def _settle(self, members: Sequence[Member]) -> None:
        """Write down what became of the members, and conclude the rows that are finished by it."""
        rows = {member.notification.id: member.notification for member in members}.values()
        finished = [row for row in rows if not row.unsettled]
        for row in finished:
            row.conclusion = conclude(row, None)
        if members:
            await self._outbox.settle(members, finished)

    async def _permitted(self, calls: list[Call]) -> list[Call]:
        """Write the calls down and return them, without the rows that were closed or taken from us meanwhile."""
        while calls:
            allowed = await self._outbox.sending(calls)
            members = [member for call in calls for member in call.members]
            lost = {
                m.notification.id: m.notification for m in members if (m.notification.id, m.recipient.id) not in allowed
            }
            if not lost:
                return calls
            await self._hand_back(list(lost.values()))
            # A call with fewer members is another call, under another key: write it down again.
            kept = [tuple(m for m in call.members if m.notification.id not in lost) for call in calls]
            calls = [Call(members) for members in kept if members]
        return calls

    async def _hand_back(self, rows: Sequence[Notification]) -> None:
        """Give up rows that may not be sent now."""
        for row in rows:
            row.handed_back = True
        if rows:
            await self._outbox.hand_back(rows)

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


def another_try(waiting: Sequence[Notification]) -> ApplicationError:
    """Return what tells Temporal to try again, after the wait Novu asked for. Carries codes only, no row's data."""
    recipients = [recipient for row in waiting for recipient in row.recipients if not recipient.settled]
    codes = sorted({recipient.outcome or "not sent" for recipient in recipients})
    wait = max((recipient.retry_after for recipient in recipients), default=0.0)
    return ApplicationError(
        f"{len(waiting)} notifications are not settled: {', '.join(codes)}",
        type="Unsettled",
        next_retry_delay=timedelta(seconds=wait) if wait else None,
        category=ApplicationErrorCategory.BENIGN,
    )


def told(rows: Sequence[Notification]) -> Tally:
    """Log how the rows ended, and return it."""
    ended = [(row, row.conclusion) for row in rows if row.conclusion is not None]
    statuses = [conclusion.status for _, conclusion in ended]
    tally = Tally(statuses.count("SENT"), statuses.count("PARTIAL"), statuses.count("FAILED"))
    words = log.bind(workflow_id=activity.info().workflow_id)
    for row, conclusion in [pair for pair in ended if pair[1].status != "SENT"][:LOGGED_ROWS]:
        words.warning(
            "dead_letter" if conclusion.wait is None else "will_retry",
            notification_id=row.id,
            generation=row.generation,
            status=conclusion.status,
            reason=conclusion.reason,
            retry_in=conclusion.wait and conclusion.wait.total_seconds(),
        )
    if ended:
        words.info("delivered", sent=tally.sent, partial=tally.partial, failed=tally.failed)
    return tally
