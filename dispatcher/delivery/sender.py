"""Makes a run's calls: looks doubtful ones up, keeps Novu's pace, writes each call down before it leaves, settles.

An answer that takes longer than a run may wait is not given up: the call goes on, and what becomes of it is written
down when it is known, as long as nobody else has taken the row meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from temporalio import activity

from dispatcher.decisions.call_planning import MAX_PARALLEL_CALLS, Call, Member, parallel_groups, plan_calls
from dispatcher.decisions.classification import apply_result
from dispatcher.decisions.final_status import decide_status, failure_code
from dispatcher.decisions.unknown_outcomes import (
    CALL_TIMEOUT_SECONDS,
    NextStep,
    apply_lookup,
    calls_needing_lookup,
    next_step,
    seconds_until_safe,
)
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.models.workflow_contract import ResultCounts
from dispatcher.telemetry.logs import get_logger

if TYPE_CHECKING:
    from dispatcher.novu.client import NovuClient
    from dispatcher.postgres.outbox import OutboxStore

ANSWER_TIMEOUT_SECONDS = 5.0
"""How long a run on the hot queue waits for an answer: below the local activity's own limit."""
EAGER_RATE_WAIT_SECONDS, BATCH_RATE_WAIT_SECONDS = 1.0, 30.0
"""How many seconds a run waits for its turn where Novu limits us."""
THROTTLED_SECONDS = 1.0
MAX_LOGGED_ROWS = 20
"""A batch names so many of its rows that are tried again; the ledger has them all. Dead letters are all named."""
LOOKUP_TIMEOUT_SECONDS = 10.0
ANSWER_TIMED_OUT = CallResult(
    AnswerClass.UNKNOWN,
    "timeout",
    f"no answer within {ANSWER_TIMEOUT_SECONDS:g} s",
    retry_after=CALL_TIMEOUT_SECONDS - ANSWER_TIMEOUT_SECONDS + 1,
)
"""The next try comes when the call can no longer be worked on, so that two are never in flight."""

log = get_logger("sender")


class Sender:
    """Makes the calls of this process's runs."""

    def __init__(self, outbox: "OutboxStore", novu: "NovuClient") -> None:
        self._outbox = outbox
        self._novu = novu
        self._late_answers: set[asyncio.Task[None]] = set()

    async def send(self, rows: Sequence[Notification]) -> None:
        """Make every call that can be made now."""
        most = self._novu.rate_limiter.burst
        for calls in parallel_groups(plan_calls(rows, most), most):
            if not self._novu.breaker.allows_calls:
                return
            patience = EAGER_RATE_WAIT_SECONDS if activity.info().is_local else BATCH_RATE_WAIT_SECONDS
            if not await self._novu.rate_limiter.acquire(sum(call.cost for call in calls), patience):
                mark_throttled(rows)
                return
            if not await self._send(calls):
                return

    async def resolve_unknown(self, rows: Sequence[Notification]) -> None:
        """Learn from Novu what became of calls that cannot be repeated as they were; let the youngest of them wait."""
        honoured = self._novu.idempotency_on is not False
        ripe: list[Member] = []
        for call in calls_needing_lookup(rows, idempotency_on=honoured):
            # Many questions do not fit into a local activity: they are the lane's.
            if activity.info().is_local or next_step(call, idempotency_on=honoured) is NextStep.WAIT:
                for member in call.members:
                    member.recipient.retry_after = max(
                        seconds_until_safe(call, idempotency_on=honoured), THROTTLED_SECONDS
                    )
                    member.recipient.throttled = True
            else:
                ripe += call.members
        await self.look_up(ripe)

    async def look_up(self, members: Sequence[Member]) -> None:
        """Ask Novu what became of the members' last calls."""
        for first in range(0, len(members), MAX_PARALLEL_CALLS):
            if not self._novu.breaker.allows_calls:
                return
            some = members[first : first + MAX_PARALLEL_CALLS]
            answers = await asyncio.gather(
                *(self._novu.look_up(member.event, LOOKUP_TIMEOUT_SECONDS) for member in some)
            )
            for member, answer in zip(some, answers, strict=True):
                apply_lookup(member, answer)
            await self._settle([member for member in some if member.recipient.state is not RecipientState.PLANNED])

    async def release(self, rows: Sequence[Notification]) -> None:
        """Give up rows that may not be sent now."""
        for row in rows:
            row.released = True
        if rows:
            await self._outbox.release(rows)

    async def _send(self, calls: list[Call]) -> bool:
        """Make the calls at once and write down what became of them; return whether all were answered in time."""
        calls = await self._record_calls(calls)
        if not calls:
            return True
        answers = {asyncio.create_task(self._call(call)): call for call in calls}
        unheard = dict(answers)
        try:
            _, late = await asyncio.wait(answers, timeout=ANSWER_TIMEOUT_SECONDS if activity.info().is_local else None)
            for answer, call in answers.items():
                outcomes = [ANSWER_TIMED_OUT] * len(call.members) if answer in late else answer.result()
                for member, outcome in zip(call.members, outcomes, strict=True):
                    apply_result(member.recipient, outcome)
            await self._settle([member for call in calls for member in call.members])
            unheard = {answer: answers[answer] for answer in late}
        finally:  # also when the run was ended while it waited
            for answer, call in unheard.items():
                self.settle_late(call, answer)
        return not late

    async def _call(self, call: Call) -> list[CallResult]:
        """Make one call."""
        return await self._novu.trigger([member.event for member in call.members], call.key, CALL_TIMEOUT_SECONDS)

    def settle_late(self, call: Call, answer: asyncio.Task[list[CallResult]]) -> None:
        """Write down what becomes of a call that nobody waits for any more."""
        task = asyncio.create_task(self._settle_answer(call, answer))
        self._late_answers.add(task)
        task.add_done_callback(self._log_late_error)

    def _log_late_error(self, task: asyncio.Task[None]) -> None:
        self._late_answers.discard(task)
        if not task.cancelled() and (error := task.exception()):  # the next try finds out
            log.warning("late_answer_lost", error=type(error).__name__)

    async def _settle_answer(self, call: Call, answer: asyncio.Task[list[CallResult]]) -> None:
        for member, outcome in zip(call.members, await answer, strict=True):
            apply_result(member.recipient, outcome)
        await self._settle(call.members)

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> None:
        """Write the outcomes of `members` and the conclusions of `rows`, and tell of those that were ours to write."""
        log_results(await self._outbox.settle(members, rows))

    async def _settle(self, members: Sequence[Member]) -> None:
        """Write down what became of the members' rows, and conclude those that are finished by it."""
        rows = list({member.notification.id: member.notification for member in members}.values())
        finished = [row for row in rows if not row.has_unsettled_recipients]
        for row in finished:
            row.final_status = decide_status(row, None)
        # All that was heard, other calls' too: a conclusion never stands without what it rests on.
        heard = [Member(row, recipient) for row in rows for recipient in row.recipients if recipient.unsaved]
        if heard:
            await self.settle(heard, finished)
        for member in heard:
            member.recipient.unsaved = False

    async def _record_calls(self, calls: list[Call]) -> list[Call]:
        """Write the calls down and return them, without the rows that were closed or taken from us meanwhile."""
        while calls:
            allowed = await self._outbox.record_calls(calls)
            members = [member for call in calls for member in call.members]
            lost = {
                m.notification.id: m.notification for m in members if (m.notification.id, m.recipient.id) not in allowed
            }
            if not lost:
                return calls
            await self.release(list(lost.values()))
            # A call with fewer members is another call, under another key: write it down again.
            kept = [tuple(m for m in call.members if m.notification.id not in lost) for call in calls]
            calls = [Call(members) for members in kept if members]
        return calls


def mark_throttled(rows: Sequence[Notification]) -> None:
    """Let what was not sent yet wait without spending a try."""
    for row in rows:
        for recipient in row.recipients:
            if not recipient.is_final and not recipient.retry_after:
                recipient.throttled, recipient.retry_after = True, THROTTLED_SECONDS


def log_results(ended: Sequence[Notification]) -> None:
    """Log how rows ended."""
    words = log.bind(workflow_id=activity.info().workflow_id)
    ends = [(row, row.final_status) for row in ended if row.final_status is not None]
    failed = [(row, conclusion) for row, conclusion in ends if conclusion.status != "SENT"]
    dead = [(row, conclusion) for row, conclusion in failed if conclusion.retry_in is None]
    for row, conclusion in dead + [each for each in failed if each[1].retry_in is not None][:MAX_LOGGED_ROWS]:
        words.warning(
            "dead_letter" if conclusion.retry_in is None else "will_retry",
            notification_id=row.id,
            generation=row.generation,
            status=conclusion.status,
            cause=failure_code(row),
            reason=conclusion.reason,
            retry_in=conclusion.retry_in and conclusion.retry_in.total_seconds(),
        )
    if ends:
        tally = count_results(ended)
        words.info("delivered", sent=tally.sent, partial=tally.partial, failed=tally.failed)


def count_results(rows: Sequence[Notification]) -> ResultCounts:
    """Return how the rows ended, those that did."""
    counts = Counter(row.final_status.status for row in rows if row.final_status is not None)
    return ResultCounts(counts["SENT"], counts["PARTIAL"], counts["FAILED"])
