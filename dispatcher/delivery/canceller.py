"""Retractions: notices rows that became RETRACTED, whoever wrote it, and takes back at Novu what it accepted for them.

Looks at the outbox instead of being told: a retraction needs nothing but the status. All of it is in the ledger, so
what a process that dies leaves undone is done by the next one, and doing it twice changes nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import anyio

from dispatcher.decisions.cancellation import GIVEN_UP, apply_cancel_result
from dispatcher.models.notification import PendingCancel, RecipientState
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.periodic import run_every
from dispatcher.telemetry import metrics
from dispatcher.telemetry.logs import get_logger

RETRACTION_POLL_SECONDS = 2.0
DETECT_LIMIT = 1000
CANCELS_PER_BATCH = 8
"""At once, so that they are done within a lease even when every answer is as slow as it may be."""
MAX_PARALLEL_CANCELS = 4
"""Few beside the calls that send, which matter more."""
CANCEL_TIMEOUT_SECONDS = 10.0
MAX_LOGGED_ROWS = 20

log = get_logger("canceller")


class Canceller:
    """Takes back, for one node."""

    def __init__(self, outbox: OutboxStore, novu: NovuClient, *, lease: timedelta, horizon: timedelta) -> None:
        self._outbox = outbox
        self._novu = novu
        self._lease = lease
        self._horizon = horizon

    async def run(self) -> None:
        """Search for retracted rows about every two seconds."""
        await run_every(RETRACTION_POLL_SECONDS, self.run_once, component=None, failure_event="retraction_failed")

    async def run_once(self) -> int:
        """Notice what was retracted and take back all that is due; return how many recipients that were."""
        if noticed := await self._outbox.detect_retracted(DETECT_LIMIT):
            log.info("retracted", rows=len(noticed), to_cancel=sum(noticed.values()))
        done = 0
        while self._novu.breaker.allows_calls and (
            cancels := await self._outbox.acquire_cancels(CANCELS_PER_BATCH, self._lease)
        ):
            limiter = anyio.CapacityLimiter(MAX_PARALLEL_CANCELS)
            await asyncio.gather(*(self._cancel(cancel, limiter) for cancel in cancels))
            await self._outbox.record_cancels(cancels)
            log_cancels(cancels)
            done += len(cancels)
        return done

    async def _cancel(self, cancel: PendingCancel, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            apply_cancel_result(
                cancel, await self._novu.cancel(cancel.transaction_id, CANCEL_TIMEOUT_SECONDS), self._horizon
            )


def log_cancels(cancels: Sequence[PendingCancel]) -> None:
    """Log what was taken back, and by name what was given up."""
    if cancelled := sum(cancel.state == RecipientState.CANCELLED for cancel in cancels):
        log.info("cancelled", recipients=cancelled)
        metrics.CANCELS.labels("cancelled").inc(cancelled)
    given_up = [cancel for cancel in cancels if cancel.outcome == GIVEN_UP]
    metrics.CANCELS.labels("given_up").inc(len(given_up))
    for cancel in given_up[:MAX_LOGGED_ROWS]:
        log.error(
            "cancel_given_up",
            notification_id=cancel.notification_id,
            transaction_id=cancel.transaction_id,
            reason=cancel.error,
            effect="the notification was retracted, but Novu may still show or send it",
        )
