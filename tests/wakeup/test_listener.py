"""The listener wakes the claimer once after each LISTEN: a NOTIFY that was sent before it is lost."""

import asyncio
from datetime import timedelta

from dispatcher.decisions.backoff import Backoff
from dispatcher.wakeup.listener import EVENT, Listener
from dispatcher.wakeup.signal import WakeUp
from tests.support.outbox_fixture import OutboxFixture


async def test_listener_wakes_the_claimer_before_it_reports_event_mode(outbox_fixture: OutboxFixture):
    wake = WakeUp()
    second = timedelta(seconds=1)
    listener = Listener(outbox_fixture.url, outbox_fixture.pool, wake, "ears", Backoff(second, second))
    running = asyncio.create_task(listener.run())
    async with asyncio.timeout(20):
        while listener.mode != EVENT:  # noqa: ASYNC110  (no event tells)
            await asyncio.sleep(0.001)
    assert wake.is_set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
