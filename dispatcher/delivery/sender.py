"""Makes a run's calls to Novu: looks up unknown outcomes, keeps to Novu's rate limit, then record -> call -> apply ->
settle.

Each call is recorded in the ledger before it is made. No answer waits for another call: it is settled when it arrives,
together with those that arrived while the last ones were settled. An answer that takes longer than the run may wait is
settled later by `LateAnswers`.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from dispatcher.decisions.call_planning import (
    MAX_PARALLEL_CALLS,
    Call,
    Member,
    parallel_groups,
    plan_calls,
    unknown_calls,
)
from dispatcher.decisions.call_splitting import count_refused_alone, is_hopeless, is_refused_together, split_call
from dispatcher.decisions.final_status import decide_status, failure_code
from dispatcher.decisions.unknown_outcomes import (
    CALL_TIMEOUT_SECONDS,
    NextStep,
    apply_lookup,
    calls_needing_lookup,
    next_step,
    seconds_until_safe,
)
from dispatcher.delivery.late_answers import Answer, LateAnswers, apply_results
from dispatcher.delivery.waiting import GO_ON_SECONDS, THROTTLED_SECONDS, make_wait, mark_throttled, without_rows
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import Notification, RecipientState, Status
from dispatcher.models.workflow_contract import ResultCounts
from dispatcher.telemetry.logs import get_logger

if TYPE_CHECKING:
    from dispatcher.novu.client import NovuClient
    from dispatcher.postgres.outbox import OutboxStore

ANSWER_TIMEOUT_SECONDS = 5.0
"""A run on the first-try queue waits this long for an answer, less than its local activity may take."""
LOCAL_CALLS_SECONDS = 2.0
"""A run on the first-try queue makes no further call after this. Its other calls are left to the batch queue. So the
last answer is there and settled before the 8 s of a local activity are over."""
EAGER_RATE_WAIT_SECONDS, BATCH_RATE_WAIT_SECONDS = 1.0, 30.0
"""A run on the first-try queue or the batch queue waits at most this long for Novu's rate limit."""
MAX_LOGGED_ROWS = 20
"""At most this many rows of a batch are logged as `will_retry`; the ledger has all. Every dead letter is logged."""
LOOKUP_TIMEOUT_SECONDS = 10.0
MAX_LOOKUPS_PER_TRY = 1000
"""So that each try of a row with very many recipients sends some of them, however slow Novu's limit makes the rest."""
ANSWER_TIMED_OUT = CallResult(
    AnswerClass.UNKNOWN,
    "timeout",
    f"no answer within {ANSWER_TIMEOUT_SECONDS:g} s",
    retry_after=CALL_TIMEOUT_SECONDS - ANSWER_TIMEOUT_SECONDS + 1,
)
"""The result of a call without an answer in time. The next try comes when Novu cannot be working on the call any more,
so that two calls are never in flight."""

log = get_logger("sender")


class Sender:
    """Makes the calls of this process's runs. Its methods are called within an activity."""

    def __init__(self, outbox: "OutboxStore", novu: "NovuClient", lookup_time: timedelta) -> None:
        self._outbox = outbox
        self._novu = novu
        self._lookup_time = lookup_time
        self._late_answers = LateAnswers(self._settle_outcomes)

    async def send(self, rows: Sequence[Notification], stop_at: float = math.inf) -> None:
        """Make every call that can be made now, and settle the answers. Split the calls that are refused as a whole.

        `stop_at`: reading of `time.monotonic()` after which no call is made. Stops early also when the circuit breaker
        trips or the rate limit allows no more calls.
        """
        await self._save(unsaved_members(rows))  # recipients that their owner removed
        max_cost = self._novu.rate_limiter.burst
        for calls in parallel_groups(plan_calls(rows, max_cost), max_cost):
            refused: list[list[Call]] = []
            if not await self._send_if_allowed(calls, rows, refused, stop_at):
                return
            for parts in refused:
                if not await self._send_parts(parts, rows, stop_at):
                    return

    async def _send_parts(self, parts: list[Call], rows: Sequence[Notification], stop_at: float) -> bool:
        """Make the calls instead of a refused one, and instead of those of them that are refused as a whole.

        Returns False if that stopped early.
        """
        while parts:
            max_cost, refused = self._novu.rate_limiter.burst, list[list[Call]]()
            for calls in parallel_groups((part for part in parts if not is_hopeless(part)), max_cost):
                if not await self._send_if_allowed(calls, rows, refused, stop_at):
                    return False
            count_refused_alone(parts)
            parts = [part for split in refused for part in split]
        return True

    async def _send_if_allowed(
        self, calls: list[Call], rows: Sequence[Notification], refused: list[list[Call]], stop_at: float
    ) -> bool:
        """Make and settle calls as `_send` does; False if time, circuit breaker or rate limit do not allow them."""
        if not self._novu.breaker.allows_calls:
            return False
        left = stop_at - time.monotonic()
        if left <= 0:
            mark_throttled(rows, GO_ON_SECONDS)
            return False
        max_wait = min(EAGER_RATE_WAIT_SECONDS, left) if activity.info().is_local else BATCH_RATE_WAIT_SECONDS
        if not await self._novu.rate_limiter.acquire(sum(call.cost for call in calls), max_wait):
            mark_throttled(rows, THROTTLED_SECONDS)
            return False
        await self._send(calls, refused)
        return True

    async def resolve_unknown(self, rows: Sequence[Notification]) -> None:
        """Look up the calls that cannot be repeated unchanged; make those wait that may still be in flight."""
        if not unknown_calls(rows):
            return
        idempotency_on = await self._novu.honours_keys()
        ready: list[Member] = []
        for call in calls_needing_lookup(rows, idempotency_on=idempotency_on):
            # A local activity has no time for many look-ups: it leaves them to the batch queue.
            if activity.info().is_local or next_step(call, idempotency_on=idempotency_on) is NextStep.WAIT:
                make_wait(call.members, seconds_until_safe(call, idempotency_on=idempotency_on))
            else:
                ready += call.members
        make_wait(ready[MAX_LOOKUPS_PER_TRY:], 0)
        await self._look_up(ready[:MAX_LOOKUPS_PER_TRY], 0 if idempotency_on else self._lookup_time.total_seconds())

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> None:
        """Write the outcomes of `members` and the final statuses of `rows`. Log the rows that were still ours."""
        log_results(await self._outbox.settle(members, rows))
        if locked := [row.id for row in rows if row.locked]:
            log.warning("rows_locked", rows=len(locked), notification_ids=locked[:MAX_LOGGED_ROWS])

    async def release(self, rows: Sequence[Notification]) -> None:
        """Give up rows that may not be sent now; their attempt does not count."""
        for row in rows:
            row.released = True
        if rows:
            await self._outbox.release(rows)

    async def _look_up(self, members: Sequence[Member], patience: float) -> None:
        """Ask Novu for the outcomes of the members' last calls, a few at a time, and settle them.

        `patience`: seconds from the last call until a missing run proves that Novu has none.
        """
        for first in range(0, len(members), MAX_PARALLEL_CALLS):
            if not self._novu.breaker.allows_calls:
                return
            group = members[first : first + MAX_PARALLEL_CALLS]
            answers = await asyncio.gather(
                *(self._novu.look_up(member.event, LOOKUP_TIMEOUT_SECONDS) for member in group)
            )
            for member, answer in zip(group, answers, strict=True):
                apply_lookup(member, answer, patience)
            await self._record_found(group)
            # A PLANNED recipient is not settled: `send` records its next call.
            await self._settle_outcomes(
                [member for member in group if member.recipient.state is not RecipientState.PLANNED]
            )

    async def _record_found(self, members: Sequence[Member]) -> None:
        """Record recipients whose run was found and whose call the ledger lacks, so that they can be settled."""
        accepted = RecipientState.ACCEPTED
        found = [each for each in members if not each.recipient.call_key and each.recipient.state is accepted]
        if found:
            await self._outbox.record_found(found)

    async def _send(self, calls: list[Call], refused: list[list[Call]]) -> None:
        """Record, make and settle calls in parallel. A local activity does not wait for late answers.

        For each call that Novu refused as a whole, adds to `refused` the smaller calls to make instead.
        """
        deadline = time.monotonic() + CALL_TIMEOUT_SECONDS  # from before the record, whose time the ledger has
        calls = await self._record_calls(calls)
        wait_until = time.monotonic() + ANSWER_TIMEOUT_SECONDS if activity.info().is_local else math.inf
        unsettled, applied = {asyncio.create_task(self._call(call, deadline)): call for call in calls}, set[Answer]()
        try:
            while unsettled:
                answered = await wait_for_answers(unsettled, wait_until)
                applied |= answered
                apply_answers({answer: unsettled[answer] for answer in answered or unsettled}, late=not answered)
                settled = [unsettled[answer] for answer in answered or unsettled]
                await self._settle_outcomes([member for call in settled for member in call.members])
                if not answered:
                    return
                refused += self._split_refused((answer.result(), unsettled.pop(answer)) for answer in answered)
        finally:  # also when the activity is cancelled or settling fails
            for answer, call in unsettled.items():
                self._late_answers.expect(call, answer, applied=answer in applied)

    def _split_refused(self, answered: Iterable[tuple[list[CallResult], Call]]) -> list[list[Call]]:
        """Return the smaller calls to make instead of each answered one that Novu refused as a whole."""
        max_cost = self._novu.rate_limiter.burst
        return [
            split_call(call, results[0].culprits, max_cost)
            for results, call in answered
            if is_refused_together(results)
        ]

    async def _record_calls(self, calls: list[Call]) -> list[Call]:
        """Record the calls in the ledger. Return them without the rows that this run may no longer send."""
        while calls:
            allowed = await self._outbox.record_calls(calls)
            members = [member for call in calls for member in call.members]
            for member in members:
                member.notification.call_recorded = True
            rejected = {
                m.notification.id: m.notification for m in members if (m.notification.id, m.recipient.id) not in allowed
            }
            if not rejected:
                return calls
            await self.release(list(rejected.values()))
            # A call with fewer members is another call with another key, so it has to be recorded again.
            calls = [call for each in calls if (call := without_rows(each, rejected.keys()))]
        return calls

    async def _call(self, call: Call, deadline: float) -> list[CallResult]:
        within = max(0.0, deadline - time.monotonic())
        return await self._novu.trigger([member.event for member in call.members], call.key, within)

    async def _settle_outcomes(self, members: Sequence[Member]) -> None:
        """Write the outcomes of the members' rows. Finish each row whose recipients are all final."""
        rows = list({member.notification.id: member.notification for member in members}.values())
        finished = {row.id: row for row in rows if not row.has_unsettled_recipients}
        for row in finished.values():
            row.final_status = decide_status(row, None)
        # Include unsaved outcomes of a finished row's other calls: a final status is never stored without all its
        # outcomes. Of other rows they are not looked for, because a row can have 100,000 recipients in 1,000 calls.
        unsaved = unsaved_members(finished.values())
        unsaved += [member for member in members if member.recipient.unsaved and member.notification.id not in finished]
        await self._save(unsaved, list(finished.values()))

    async def _save(self, unsaved: Sequence[Member], finished: Sequence[Notification] = ()) -> None:
        """Write outcomes that the ledger does not have, with the final statuses of `finished`."""
        if unsaved:
            await self.settle(unsaved, finished)
        for member in unsaved:
            member.recipient.unsaved = False


def unsaved_members(rows: Iterable[Notification]) -> list[Member]:
    """Return the recipients of the rows whose last change is not in the ledger."""
    return [Member(row, recipient) for row in rows for recipient in row.recipients if recipient.unsaved]


async def wait_for_answers(answers: Mapping[Answer, Call], until: float) -> set[Answer]:
    """Wait for the next answer; return all that are there by then, or none after the time `until`."""
    timeout = None if until == math.inf else max(0.0, until - time.monotonic())
    answered, _ = await asyncio.wait(answers, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return answered


def apply_answers(answers: Mapping[Answer, Call], *, late: bool) -> None:
    """Change the calls' recipients by the answers; a late answer counts as an unknown outcome for now."""
    for answer, call in answers.items():
        apply_results(call, [ANSWER_TIMED_OUT] * len(call.members) if late else answer.result())


def log_results(rows: Sequence[Notification]) -> None:
    """Log each dead letter, some of the rows to be retried, and the number of rows per final status."""
    run_log = log.bind(workflow_id=activity.info().workflow_id)
    ended = [(row, row.final_status) for row in rows if row.final_status is not None]
    not_sent = [(row, final) for row, final in ended if final.status is not Status.SENT]
    dead = [(row, final) for row, final in not_sent if final.retry_in is None]
    retried = [(row, final) for row, final in not_sent if final.retry_in is not None]
    for row, final in dead + retried[:MAX_LOGGED_ROWS]:
        run_log.warning(
            "dead_letter" if final.retry_in is None else "will_retry",
            notification_id=row.id,
            generation=row.generation,
            status=final.status.value,
            cause=failure_code(row),
            reason=final.reason,
            retry_in=final.retry_in and final.retry_in.total_seconds(),
        )
    if ended:
        counts = count_results(rows)
        run_log.info("delivered", sent=counts.sent, partial=counts.partial, failed=counts.failed)


def count_results(rows: Sequence[Notification]) -> ResultCounts:
    """Return how many rows ended with each final status; rows without one are in no count."""
    counts = Counter(row.final_status.status for row in rows if row.final_status is not None)
    return ResultCounts(counts[Status.SENT], counts[Status.PARTIAL], counts[Status.FAILED])
