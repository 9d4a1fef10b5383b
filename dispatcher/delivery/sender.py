"""Makes a run's calls: looks doubtful ones up, keeps Novu's pace, writes each call down before it leaves, settles.

An answer that takes longer than a run may wait is not given up: the call goes on, and what becomes of it is written
down when it is known, as long as nobody else has taken the row meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from temporalio import activity

from dispatcher.decisions.call_planning import PARALLEL_CALLS, Call, Member, chunks, plan
from dispatcher.decisions.classification import apply
from dispatcher.decisions.final_status import cause, conclude
from dispatcher.decisions.unknown_outcomes import CALL_SECONDS, Step, doubtful, next_step, resolve, wait
from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import Notification, State
from dispatcher.models.workflow_contract import Tally
from dispatcher.telemetry.logs import get_logger

if TYPE_CHECKING:
    from dispatcher.novu.client import NovuGateway
    from dispatcher.postgres.outbox import Outbox

HOT_SECONDS = 5.0
"""How long a run on the hot queue waits for an answer: below the local activity's own limit."""
HOT_PATIENCE, LANE_PATIENCE = 1.0, 30.0
"""How many seconds a run waits for its turn where Novu limits us."""
HELD_SECONDS = 1.0
LOGGED_ROWS = 20
"""A batch names so many of its rows that are tried again; the ledger has them all. Dead letters are all named."""
LOOK_UP_SECONDS = 10.0
STILL_OUT = Outcome(
    Verdict.AMBIGUOUS, "timeout", f"no answer within {HOT_SECONDS:g} s", retry_after=CALL_SECONDS - HOT_SECONDS + 1
)
"""The next try comes when the call can no longer be worked on, so that two are never in flight."""

log = get_logger("sender")


class Sender:
    """Makes the calls of this process's runs."""

    def __init__(self, outbox: "Outbox", novu: "NovuGateway") -> None:
        self._outbox = outbox
        self._novu = novu
        self._late: set[asyncio.Task[None]] = set()

    async def send(self, rows: Sequence[Notification]) -> None:
        """Make every call that can be made now."""
        most = self._novu.pace.most
        for calls in chunks(plan(rows, most), most):
            if not self._novu.gate.open:
                return
            patience = HOT_PATIENCE if activity.info().is_local else LANE_PATIENCE
            if not await self._novu.pace.turn(sum(call.tokens for call in calls), patience):
                hold(rows)
                return
            if not await self._send(calls):
                return

    async def clear_up(self, rows: Sequence[Notification]) -> None:
        """Learn from Novu what became of calls that cannot be repeated as they were; let the youngest of them wait."""
        honoured = self._novu.honours_keys is not False
        ripe: list[Member] = []
        for call in doubtful(rows, honoured=honoured):
            # Many questions do not fit into a local activity: they are the lane's.
            if activity.info().is_local or next_step(call, honoured=honoured) is Step.WAIT:
                for member in call.members:
                    member.recipient.retry_after = max(wait(call, honoured=honoured), HELD_SECONDS)
                    member.recipient.held = True
            else:
                ripe += call.members
        await self.look_up(ripe)

    async def look_up(self, members: Sequence[Member]) -> None:
        """Ask Novu what became of the members' last calls."""
        for first in range(0, len(members), PARALLEL_CALLS):
            if not self._novu.gate.open:
                return
            some = members[first : first + PARALLEL_CALLS]
            answers = await asyncio.gather(*(self._novu.look_up(member.event, LOOK_UP_SECONDS) for member in some))
            for member, answer in zip(some, answers, strict=True):
                resolve(member, answer)
            await self._settle([member for member in some if member.recipient.state is not State.PLANNED])

    async def hand_back(self, rows: Sequence[Notification]) -> None:
        """Give up rows that may not be sent now."""
        for row in rows:
            row.handed_back = True
        if rows:
            await self._outbox.hand_back(rows)

    async def _send(self, calls: list[Call]) -> bool:
        """Make the calls at once and write down what became of them; return whether all were answered in time."""
        calls = await self._permitted(calls)
        if not calls:
            return True
        answers = {asyncio.create_task(self._answers(call)): call for call in calls}
        unheard = dict(answers)
        try:
            _, late = await asyncio.wait(answers, timeout=HOT_SECONDS if activity.info().is_local else None)
            for answer, call in answers.items():
                outcomes = [STILL_OUT] * len(call.members) if answer in late else answer.result()
                for member, outcome in zip(call.members, outcomes, strict=True):
                    apply(member.recipient, outcome)
            await self._settle([member for call in calls for member in call.members])
            unheard = {answer: answers[answer] for answer in late}
        finally:  # also when the run was ended while it waited
            for answer, call in unheard.items():
                self._hear_later(call, answer)
        return not late

    async def _answers(self, call: Call) -> list[Outcome]:
        """Make one call."""
        return await self._novu.trigger([member.event for member in call.members], call.key, CALL_SECONDS)

    def _hear_later(self, call: Call, answer: asyncio.Task[list[Outcome]]) -> None:
        """Write down what becomes of a call that nobody waits for any more."""
        task = asyncio.create_task(self._hear(call, answer))
        self._late.add(task)
        task.add_done_callback(self._heard)

    def _heard(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()):  # the next try finds out
            log.warning("late_answer_lost", error=type(error).__name__)

    async def _hear(self, call: Call, answer: asyncio.Task[list[Outcome]]) -> None:
        for member, outcome in zip(call.members, await answer, strict=True):
            apply(member.recipient, outcome)
        await self._settle(call.members)

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> None:
        """Write the outcomes of `members` and the conclusions of `rows`, and tell of those that were ours to write."""
        tell(await self._outbox.settle(members, rows))

    async def _settle(self, members: Sequence[Member]) -> None:
        """Write down what became of the members' rows, and conclude those that are finished by it."""
        rows = list({member.notification.id: member.notification for member in members}.values())
        finished = [row for row in rows if not row.unsettled]
        for row in finished:
            row.conclusion = conclude(row, None)
        # All that was heard, other calls' too: a conclusion never stands without what it rests on.
        heard = [Member(row, recipient) for row in rows for recipient in row.recipients if recipient.unwritten]
        if heard:
            await self.settle(heard, finished)
        for member in heard:
            member.recipient.unwritten = False

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
            await self.hand_back(list(lost.values()))
            # A call with fewer members is another call, under another key: write it down again.
            kept = [tuple(m for m in call.members if m.notification.id not in lost) for call in calls]
            calls = [Call(members) for members in kept if members]
        return calls


def hold(rows: Sequence[Notification]) -> None:
    """Let what was not sent yet wait without spending a try."""
    for row in rows:
        for recipient in row.recipients:
            if not recipient.settled and not recipient.retry_after:
                recipient.held, recipient.retry_after = True, HELD_SECONDS


def tell(ended: Sequence[Notification]) -> None:
    """Log how rows ended."""
    words = log.bind(workflow_id=activity.info().workflow_id)
    ends = [(row, row.conclusion) for row in ended if row.conclusion is not None]
    failed = [(row, conclusion) for row, conclusion in ends if conclusion.status != "SENT"]
    dead = [(row, conclusion) for row, conclusion in failed if conclusion.wait is None]
    for row, conclusion in dead + [each for each in failed if each[1].wait is not None][:LOGGED_ROWS]:
        words.warning(
            "dead_letter" if conclusion.wait is None else "will_retry",
            notification_id=row.id,
            generation=row.generation,
            status=conclusion.status,
            cause=cause(row),
            reason=conclusion.reason,
            retry_in=conclusion.wait and conclusion.wait.total_seconds(),
        )
    if ends:
        tally = tallied(ended)
        words.info("delivered", sent=tally.sent, partial=tally.partial, failed=tally.failed)


def tallied(rows: Sequence[Notification]) -> Tally:
    """Return how the rows ended, those that did."""
    counts = Counter(row.conclusion.status for row in rows if row.conclusion is not None)
    return Tally(counts["SENT"], counts["PARTIAL"], counts["FAILED"])
