"""A worker's heartbeat in the table of nodes, and how `dispatch` reacts to it."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from dispatcher.claim import worker_presence
from dispatcher.claim.worker_presence import HEARTBEAT_TTL, LiveWorkers
from dispatcher.delivery import heartbeat
from dispatcher.delivery.heartbeat import WorkerHeartbeat
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.telemetry import health
from dispatcher.wakeup.signal import WakeUp
from tests.support.outbox_fixture import OutboxFixture
from tests.support.waits import eventually


@pytest.fixture(autouse=True)
def healthy():
    health.report_ok("novu")
    yield
    health.report_ok("novu")


@asynccontextmanager
async def beside(loop: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Run a loop for the block."""
    task = asyncio.create_task(loop)
    yield
    task.cancel()
    await asyncio.wait([task])


async def welcome() -> bool:
    return True


async def test_refused_worker_removes_its_heartbeat_at_once(
    outbox_fixture: OutboxFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 3600)
    breaker, held = CircuitBreaker(welcome), await outbox_fixture.acquired()

    async def believed() -> bool:
        return await outbox_fixture.outbox.has_live_worker(HEARTBEAT_TTL)

    async def not_believed() -> bool:
        return not await believed()

    async with beside(WorkerHeartbeat(outbox_fixture.outbox, breaker).run()):
        await eventually(believed, "a worker that is believed", 20)
        breaker.trip("HTTP 401")
        await eventually(not_believed, "a worker that is not believed", HEARTBEAT_TTL.total_seconds() / 2)
    assert await outbox_fixture.status(held.id) == "PROCESSING"
    assert await outbox_fixture.outbox.count_leased() == 1, "what it holds it keeps"


async def test_worker_restart_is_no_outage_and_worker_absence_is_one(
    outbox_fixture: OutboxFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker_presence, "WORKER_POLL_SECONDS", 0.01)
    workforce, worker = LiveWorkers(outbox_fixture.outbox), await outbox_fixture.node("worker")

    async def is_open() -> bool:
        return workforce.allows_calls

    async def is_shut() -> bool:
        return not workforce.allows_calls

    async def broken() -> bool:
        return health.process_health.state("novu") == "unhealthy"

    async def hello() -> None:
        await worker.heartbeat(role="worker", host="h", version="1", mode="EVENT")
        await eventually(is_open, "an open breaker", 20)
        assert not await broken()

    async with beside(workforce.run(WakeUp())):
        await hello()
        for _ in range(3):
            await worker.release_node()
            await eventually(is_shut, "a shut breaker", 20)
            await asyncio.sleep(0.05)
            assert not await broken(), "it may only be starting again"
            await hello()
        monkeypatch.setattr(worker_presence, "HEARTBEAT_TTL", timedelta(seconds=0.5))
        await worker.release_node()
        await eventually(broken, "novu unhealthy", 20)
        monkeypatch.setattr(worker_presence, "HEARTBEAT_TTL", HEARTBEAT_TTL)
        await hello()
