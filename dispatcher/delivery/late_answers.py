"""Novu's answers to calls that no run waits for any longer.

A run that stops waiting does not cancel its call. The answer is written to the ledger when it arrives, unless another
run has acquired the row by then: the row's fence rejects the write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dispatcher.decisions.call_planning import Call, Member
from dispatcher.decisions.classification import apply_result
from dispatcher.models.call_result import CallResult
from dispatcher.telemetry.logs import get_logger

log = get_logger("late_answers")

Answer = asyncio.Task[list[CallResult]]
"""A call in progress. Its result has one entry for each member of the call, in order."""


def apply_results(call: Call, results: Sequence[CallResult]) -> None:
    """Change the recipients of `call` by its results, one for each member, in order."""
    for member, result in zip(call.members, results, strict=True):
        apply_result(member.recipient, result)


class LateAnswers:
    """Settles late answers in the background. `settle` writes the outcomes of a call's members to the ledger."""

    def __init__(self, settle: Callable[[Sequence[Member]], Awaitable[None]]) -> None:
        self._settle = settle
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself keeps only weak references

    def expect(self, call: Call, answer: Answer, *, applied: bool) -> None:
        """Return at once; settle `call` when its answer is there. `applied`: its recipients were changed by it before.

        Then only the writing failed, or its confirmation was lost. Applied twice, it would raise the epoch twice.
        """
        task = asyncio.create_task(self._settle_when_answered(call, answer, applied=applied))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def _settle_when_answered(self, call: Call, answer: Answer, *, applied: bool) -> None:
        results = await answer
        if not applied:
            apply_results(call, results)
        await self._settle(call.members)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Drop a task that ended. An error is only logged: in the ledger the call's outcome is unknown, so the next try
        resolves it."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("late_answer_lost", error=type(error).__name__)
