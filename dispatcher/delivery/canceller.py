"""Cancels retracted notifications: finds rows whose status became RETRACTED and cancels their triggers at Novu.

It polls the outbox, because any client may write the status. Its whole state is in the ledger: after a crash the next
process continues, and a repeated cancel changes nothing.
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
"""At most this many newly retracted rows are recorded in one search."""
CANCELS_PER_BATCH = 8
"""Cancels of one lease: few enough to end within it even if every request takes as long as it may."""
MAX_PARALLEL_CANCELS = 4
"""Few, because the connections are shared with the calls that send."""
CANCEL_TIMEOUT_SECONDS = 10.0
MAX_LOGGED_ROWS = 20

log = get_logger("canceller")


class Canceller:
    """Detects retractions and cancels triggers for one node.

    `lease`: how long a cancel belongs to this process. `horizon`: how long a failing cancel is tried again.
    """

    def __init__(self, outbox: OutboxStore, novu: NovuClient, *, lease: timedelta, horizon: timedelta) -> None:
        self._outbox = outbox
        self._novu = novu
        self._lease = lease
        self._horizon = horizon

    async def run(self) -> None:
        """Run `run_once` about every two seconds. Reports the component `retraction`."""
        await run_every(
            RETRACTION_POLL_SECONDS, self.run_once, component="retraction", failure_event="retraction_failed"
        )

    async def run_once(self) -> int:
        """Record new retractions and try every due cancel; return the number of recipients tried."""
        if retracted := await self._outbox.detect_retracted(DETECT_LIMIT):
            log.info("retracted", rows=len(retracted), to_cancel=sum(retracted.values()))
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
    """Log and count the cancels that succeeded, and those that were given up, each of these with its id."""
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
