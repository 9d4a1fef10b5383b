"""No wake-up is lost: writers of every kind beside a node that falls asleep, in thousands of interleavings.

Every step is a real statement on a real server. A schedule decides who takes the next step. The node runs its real
code, and waits for permission before each statement. A row is lost if the node sleeps, the row is committed, and
neither was it claimed nor did a NOTIFY arrive.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from dispatcher.claim.claimer import Claimer
from dispatcher.config.table_names import CHANNEL
from dispatcher.models.claims import ClaimLimits, ClaimResult
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.temporal.runs_in_flight import RunsInFlight
from dispatcher.wakeup.adaptive_notify import AdaptiveNotify
from dispatcher.wakeup.signal import WakeUp
from tests.support.outbox_fixture import LEASE, OutboxFixture

INSERT = (
    "insert into notify.ent_notification (name, publish_status, payload, recipients)"
    " values ('n ' || gen_random_uuid(), 'PUBLISH', '{}', '{}')"
)
PUBLISH = "update notify.ent_notification set publish_status = 'PUBLISH' where name = 'draft'"
SAVEPOINT = [INSERT, "savepoint s", INSERT, "rollback to s"]
WRITERS: dict[str, list[str]] = {
    "short": [INSERT],
    "short update": [PUBLISH],
    "long": ["begin", INSERT, "select 1", "commit"],
    "long with a savepoint": ["begin", *SAVEPOINT, "commit"],
    "writes before it notifies": ["begin", "create temporary table t () on commit drop", INSERT, "commit"],
    "repeatable read": ["begin isolation level repeatable read", "select 1 from dispatcher.node", INSERT, "commit"],
    "serializable": ["begin isolation level serializable", "select 1 from dispatcher.node", INSERT, "commit"],
    "rolled back": ["begin", INSERT, "rollback"],
    "two-phase": ["begin", INSERT, "prepare transaction 'p'", "commit prepared 'p'"],
}
SIZES = ClaimLimits(limit=100, capacity=10_000, batch_size=100)
SCHEDULES_PER_WRITER = 250


class StepLock:
    """Lets the node take one statement at a time."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(0)
        self.waiting = asyncio.Event()
        self.free = False

    async def wait(self) -> None:
        """Wait for the next turn."""
        if not self.free:
            self.waiting.set()
            await self._permits.acquire()

    async def allow_step(self, node: "asyncio.Task[Any]") -> None:
        """Let the node take one step, and wait until it wants another or is asleep."""
        self.waiting.clear()
        self._permits.release()
        wanting = asyncio.ensure_future(self.waiting.wait())
        await asyncio.wait([node, wanting], return_when=asyncio.FIRST_COMPLETED)
        wanting.cancel()

    def run_freely(self) -> None:
        """Let the node run on alone."""
        self.free = True
        self._permits.release()


class SteppedOutbox:
    """The real outbox; before each statement it waits for its turn."""

    def __init__(self, outbox: OutboxStore, lock: StepLock) -> None:
        self._outbox = outbox
        self._turns = lock

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._outbox, name)

        async def stepped(*args: Any) -> Any:
            await self._turns.wait()
            return await method(*args)

        return stepped


class AsleepTooEarly(AdaptiveNotify):
    """A planted bug: falls asleep without waiting for those who may have read "awake"."""

    async def mark_asleep_safely(self) -> bool:
        await self._outbox.mark_asleep()
        await self._claim_all_due()
        return True


@dataclass
class Scenario:
    """One database with a node, a writer and a listening session."""

    outbox_fixture: OutboxFixture
    writer: psycopg.AsyncConnection[Any]
    listener: psycopg.AsyncConnection[Any]
    counts: dict[str, int] = field(default_factory=dict[str, int])

    async def play(self, kind: str, schedule: random.Random, notify_type: type[AdaptiveNotify]) -> bool:
        """Play one schedule; return whether a row was lost."""
        await self.outbox_fixture.rows("delete from notify.ent_notification")
        if kind == "short update":
            await self.outbox_fixture.notify(name="draft", publish_status="DRAFT", notification_workflow_id=None)
        lock, outbox = StepLock(), self.outbox_fixture.outbox
        await outbox.mark_awake()

        async def claim_all_due() -> ClaimResult:
            await lock.wait()
            claim = await outbox.claim(f"{schedule.random()}", LEASE, SIZES)
            return ClaimResult(claim.rows, backlog=bool(claim.starts), is_full=False)

        adaptive = notify_type(SteppedOutbox(outbox, lock), asyncio.Event(), claim_all_due)  # pyright: ignore[reportArgumentType]
        steps = list(WRITERS[kind])
        node = asyncio.create_task(adaptive.mark_asleep_safely())
        await lock.waiting.wait()
        while steps and not node.done():
            if schedule.random() < 0.5:
                await self.write(steps)
            else:
                await lock.allow_step(node)
        while steps:  # the node sleeps: a later commit has to send a NOTIFY, or the node waited for it
            await self.write(steps)
        lock.run_freely()
        await node
        return not await self.notify_arrived() and await self.left_behind()

    async def write(self, steps: list[str]) -> None:
        """Take the writer's next step."""
        try:
            await self.writer.execute(steps.pop(0).encode())
        except psycopg.errors.FeatureNotSupported:  # PREPARE after a NOTIFY: documented, the transaction is gone
            await self.writer.execute("rollback")
            steps.clear()

    async def notify_arrived(self) -> bool:
        """Return whether a NOTIFY arrived since the last call; a NOTIFY of ours marks the end."""
        await self.outbox_fixture.rows(f"notify {CHANNEL}, 'the end'")
        arrived = False
        async for notify in self.listener.notifies(timeout=10):
            if notify.payload == "the end":
                break
            arrived = True
        return arrived

    async def left_behind(self) -> bool:
        """Return whether a due row waits without a NOTIFY."""
        return await self.outbox_fixture.value(
            "select exists (select from notify.ent_notification where notification_status"
            " = 'PENDING' and publish_status = 'PUBLISH')"
        )


@asynccontextmanager
async def open_scenario(outbox_fixture: OutboxFixture) -> AsyncGenerator[Scenario]:
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    async with (
        await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as writer,
        await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as listener,
    ):
        await listener.execute(f"listen {CHANNEL}".encode())
        yield Scenario(outbox_fixture, writer, listener)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
async def test_wake_up_is_never_lost_while_falling_asleep(outbox_fixture: OutboxFixture, kind: str):
    async with open_scenario(outbox_fixture) as scenario:
        lost = [
            seed
            for seed in range(SCHEDULES_PER_WRITER)
            if await scenario.play(kind, random.Random(seed), AdaptiveNotify)
        ]
    assert lost == [], "seeds of the schedules that lost a row"


def test_at_least_2000_schedules_are_played():
    assert len(WRITERS) * SCHEDULES_PER_WRITER >= 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["long", "two-phase"])
async def test_planted_missing_wait_is_detected(outbox_fixture: OutboxFixture, kind: str):
    async with open_scenario(outbox_fixture) as scenario:
        lost = [seed for seed in range(100) if await scenario.play(kind, random.Random(seed), AsleepTooEarly)]
    assert lost


async def test_asleep_node_gets_a_notify_and_an_awake_one_does_not(outbox_fixture: OutboxFixture):
    async with open_scenario(outbox_fixture) as scenario:
        await outbox_fixture.outbox.mark_awake()
        await scenario.writer.execute(INSERT)
        assert not await scenario.notify_arrived()
        await outbox_fixture.outbox.mark_asleep()
        await scenario.writer.execute(INSERT)
        assert await scenario.notify_arrived()


class OutboxCutOffOnce:
    """The real outbox; the first look at the newest transaction finds no server."""

    def __init__(self, outbox: OutboxStore) -> None:
        self._outbox = outbox
        self.cuts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def snapshot_xmax(self) -> str:
        self.cuts += 1
        if self.cuts == 1:
            raise psycopg.OperationalError("the connection is lost")
        return await self._outbox.snapshot_xmax()


def claimer_for(outbox: Any, wake: WakeUp) -> Claimer:
    """Return a claimer that has nothing to start."""

    async def welcome() -> bool:
        return True

    no_starter: Any = None
    breaker, runs = CircuitBreaker(welcome), RunsInFlight()
    return Claimer(outbox, no_starter, wake, breaker, runs, lease=LEASE, batch_size=100, adaptive=True)


async def test_node_disconnected_while_falling_asleep_falls_asleep_later_without_a_notify(
    outbox_fixture: OutboxFixture,
):
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    outbox, wake = OutboxCutOffOnce(outbox_fixture.outbox), WakeUp()
    wake.set()  # a NOTIFY arrived while its claim ran
    claimer = claimer_for(outbox, wake)
    with pytest.raises(psycopg.OperationalError):
        await claimer.run_once()
    wake.clear()
    async with asyncio.timeout(10):
        await claimer.run_once()
    assert outbox.cuts == 2, "the node waited for transactions that had read 'awake'"


async def test_node_falls_asleep_after_an_earlier_notify(outbox_fixture: OutboxFixture):
    async with open_scenario(outbox_fixture) as scenario:
        wake = WakeUp()
        wake.set()
        async with asyncio.timeout(10):
            await claimer_for(outbox_fixture.outbox, wake).run_once()
        await scenario.writer.execute(INSERT)
        assert await scenario.notify_arrived()


async def test_node_with_one_notify_does_not_suppress_notify(outbox_fixture: OutboxFixture):
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    outbox, wake = OutboxCutOffOnce(outbox_fixture.outbox), WakeUp()
    claimer = claimer_for(outbox, wake)
    await claimer.run_once()
    assert outbox.cuts == 0, "one NOTIFY, one search: it never marked itself awake"


async def test_dead_nodes_awake_mark_expires_after_two_seconds(outbox_fixture: OutboxFixture):
    async with open_scenario(outbox_fixture) as scenario:
        await outbox_fixture.outbox.mark_awake()
        left = await outbox_fixture.value(
            "select awake_until - clock_timestamp() <= interval '2 s' from dispatcher.node"
        )
        await outbox_fixture.rows("update dispatcher.node set awake_until = clock_timestamp()")
        await scenario.writer.execute(INSERT)
        assert left
        assert await scenario.notify_arrived()


async def test_producer_without_rights_on_our_schema_sends_a_notify(outbox_fixture: OutboxFixture):
    role = "producer_without_rights"
    await outbox_fixture.rows(
        f"do $$ begin if not exists (select from pg_roles where rolname = '{role}') then create role {role}; end if;"
        f" end $$; grant usage on schema notify, shared_types, func, auth to {role};"
        f" grant insert, select on notify.ent_notification to {role}"
    )
    async with open_scenario(outbox_fixture) as scenario:
        await scenario.writer.execute(f"set role {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await scenario.writer.execute("select from dispatcher.node")
        await scenario.writer.execute(INSERT)
        assert await scenario.notify_arrived()
        await outbox_fixture.outbox.mark_awake()
        await scenario.writer.execute(INSERT)
        assert not await scenario.notify_arrived()


async def test_trigger_sends_notify_without_the_node_table(outbox_fixture: OutboxFixture):
    async with open_scenario(outbox_fixture) as scenario:
        await outbox_fixture.outbox.mark_awake()
        await outbox_fixture.rows("alter table dispatcher.node rename to elsewhere")
        await scenario.writer.execute(INSERT)
        assert await scenario.notify_arrived()
