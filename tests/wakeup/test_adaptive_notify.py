"""No wake-up is lost: writers of every kind beside a node that falls asleep, in thousands of interleavings.

Every step is a real statement on a real server. A schedule says who takes the next step; the node runs its real code,
and waits for its turn before each statement. A row is lost when the node sleeps, the row is committed, and neither was
it claimed nor did the bell ring.
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
SIZES = ClaimLimits(limit=100, capacity=10_000, max_single_workflows=10, batch_size=100)
SCHEDULES_PER_WRITER = 250


class Turns:
    """Lets the node take one statement at a time."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(0)
        self.waiting = asyncio.Event()
        self.free = False

    async def turn(self) -> None:
        """Wait for the next turn."""
        if not self.free:
            self.waiting.set()
            await self._permits.acquire()

    async def give(self, node: "asyncio.Task[Any]") -> None:
        """Let the node take one step, and wait until it wants another or is asleep."""
        self.waiting.clear()
        self._permits.release()
        wanting = asyncio.ensure_future(self.waiting.wait())
        await asyncio.wait([node, wanting], return_when=asyncio.FIRST_COMPLETED)
        wanting.cancel()

    def release(self) -> None:
        """Let the node run on alone."""
        self.free = True
        self._permits.release()


class SteppedOutbox:
    """The real outbox; before each statement it waits for its turn."""

    def __init__(self, outbox: OutboxStore, turns: Turns) -> None:
        self._outbox = outbox
        self._turns = turns

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._outbox, name)

        async def stepped(*args: Any) -> Any:
            await self._turns.turn()
            return await method(*args)

        return stepped


class Impatient(AdaptiveNotify):
    """A planted bug: falls asleep without waiting for those who may have read "awake"."""

    async def mark_asleep_safely(self) -> bool:
        await self._outbox.mark_asleep()
        await self._claim_all_due()
        return True


@dataclass
class Scene:
    """One database with a node, a writer and a sleeper's ear."""

    outbox_fixture: OutboxFixture
    writer: psycopg.AsyncConnection[Any]
    ear: psycopg.AsyncConnection[Any]
    counts: dict[str, int] = field(default_factory=dict[str, int])

    async def play(self, kind: str, schedule: random.Random, bell_type: type[AdaptiveNotify]) -> bool:
        """Play one schedule; return whether a row was lost."""
        await self.outbox_fixture.rows("delete from notify.ent_notification")
        if kind == "short update":
            await self.outbox_fixture.notify(name="draft", publish_status="DRAFT", notification_workflow_id=None)
        turns, outbox = Turns(), self.outbox_fixture.outbox
        await outbox.mark_awake()

        async def drain() -> ClaimResult:
            await turns.turn()
            claim = await outbox.claim(f"{schedule.random()}", LEASE, SIZES)
            return ClaimResult(claim.rows, backlog=bool(claim.starts), is_full=False)

        bell = bell_type(SteppedOutbox(outbox, turns), asyncio.Event(), drain)  # pyright: ignore[reportArgumentType]
        steps = list(WRITERS[kind])
        node = asyncio.create_task(bell.mark_asleep_safely())
        await turns.waiting.wait()
        while steps and not node.done():
            if schedule.random() < 0.5:
                await self.write(steps)
            else:
                await turns.give(node)
        while steps:  # the node sleeps: what comes now has to ring, or to have been waited for
            await self.write(steps)
        turns.release()
        await node
        return not await self.heard() and await self.left_behind()

    async def write(self, steps: list[str]) -> None:
        """Take the writer's next step."""
        try:
            await self.writer.execute(steps.pop(0).encode())
        except psycopg.errors.FeatureNotSupported:  # PREPARE after a NOTIFY: documented, the transaction is gone
            await self.writer.execute("rollback")
            steps.clear()

    async def heard(self) -> bool:
        """Return whether the bell rang since the last time; a NOTIFY of ours marks the end."""
        await self.outbox_fixture.rows(f"notify {CHANNEL}, 'the end'")
        rang = False
        async for notify in self.ear.notifies(timeout=10):
            if notify.payload == "the end":
                break
            rang = True
        return rang

    async def left_behind(self) -> bool:
        """Return whether a due row waits that nobody was told of."""
        return await self.outbox_fixture.value(
            "select exists (select from notify.ent_notification where notification_status"
            " = 'PENDING' and publish_status = 'PUBLISH')"
        )


@asynccontextmanager
async def scene(outbox_fixture: OutboxFixture) -> AsyncGenerator[Scene]:
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    async with (
        await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as writer,
        await psycopg.AsyncConnection.connect(outbox_fixture.url, autocommit=True) as ear,
    ):
        await ear.execute(f"listen {CHANNEL}".encode())
        yield Scene(outbox_fixture, writer, ear)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
async def test_no_wake_up_is_lost_while_falling_asleep(outbox_fixture: OutboxFixture, kind: str):
    async with scene(outbox_fixture) as stage:
        lost = [
            seed for seed in range(SCHEDULES_PER_WRITER) if await stage.play(kind, random.Random(seed), AdaptiveNotify)
        ]
    assert lost == [], "seeds of the schedules that lost a row"


def test_there_are_enough_schedules():
    assert len(WRITERS) * SCHEDULES_PER_WRITER >= 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["long", "two-phase"])
async def test_a_version_without_the_wait_is_caught(outbox_fixture: OutboxFixture, kind: str):
    async with scene(outbox_fixture) as stage:
        lost = [seed for seed in range(100) if await stage.play(kind, random.Random(seed), Impatient)]
    assert lost


async def test_an_awake_node_is_not_rung_and_a_sleeping_one_is(outbox_fixture: OutboxFixture):
    async with scene(outbox_fixture) as stage:
        await outbox_fixture.outbox.mark_awake()
        await stage.writer.execute(INSERT)
        assert not await stage.heard()
        await outbox_fixture.outbox.mark_asleep()
        await stage.writer.execute(INSERT)
        assert await stage.heard()


class CutOffOnce:
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


def door_to(outbox: Any, wake: WakeUp) -> Claimer:
    """Return a door that has nothing to start."""

    async def welcome() -> bool:
        return True

    nobody: Any = None
    return Claimer(outbox, nobody, wake, CircuitBreaker(welcome), lease=LEASE, batch_size=100, adaptive=True)


async def test_a_node_cut_off_while_it_fell_asleep_does_so_later_without_being_rung(outbox_fixture: OutboxFixture):
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    outbox, wake = CutOffOnce(outbox_fixture.outbox), WakeUp()
    wake.set()  # rung while its claim ran
    door = door_to(outbox, wake)
    with pytest.raises(psycopg.OperationalError):
        await door.run_once()
    wake.clear()
    async with asyncio.timeout(10):
        await door.run_once()
    assert outbox.cuts == 2, "whoever read that it was awake was waited for"


async def test_a_node_falls_asleep_although_it_was_rung_before(outbox_fixture: OutboxFixture):
    async with scene(outbox_fixture) as stage:
        wake = WakeUp()
        wake.set()
        async with asyncio.timeout(10):
            await door_to(outbox_fixture.outbox, wake).run_once()
        await stage.writer.execute(INSERT)
        assert await stage.heard()


async def test_a_node_that_was_rung_once_does_not_muffle_the_bell(outbox_fixture: OutboxFixture):
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="0", mode="EVENT")
    outbox, wake = CutOffOnce(outbox_fixture.outbox), WakeUp()
    door = door_to(outbox, wake)
    await door.run_once()
    assert outbox.cuts == 0, "one ring, one look: it never said that it is up"


async def test_the_word_of_a_dead_node_is_believed_for_two_seconds_only(outbox_fixture: OutboxFixture):
    async with scene(outbox_fixture) as stage:
        await outbox_fixture.outbox.mark_awake()
        left = await outbox_fixture.value(
            "select awake_until - clock_timestamp() <= interval '2 s' from dispatcher.node"
        )
        await outbox_fixture.rows("update dispatcher.node set awake_until = clock_timestamp()")
        await stage.writer.execute(INSERT)
        assert left
        assert await stage.heard()


async def test_a_producer_without_any_right_on_our_schema_is_served(outbox_fixture: OutboxFixture):
    role = "producer_without_rights"
    await outbox_fixture.rows(
        f"do $$ begin if not exists (select from pg_roles where rolname = '{role}') then create role {role}; end if;"
        f" end $$; grant usage on schema notify, shared_types, func, auth to {role};"
        f" grant insert, select on notify.ent_notification to {role}"
    )
    async with scene(outbox_fixture) as stage:
        await stage.writer.execute(f"set role {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await stage.writer.execute("select from dispatcher.node")
        await stage.writer.execute(INSERT)
        assert await stage.heard()
        await outbox_fixture.outbox.mark_awake()
        await stage.writer.execute(INSERT)
        assert not await stage.heard()


async def test_a_broken_node_table_rings_instead_of_raising(outbox_fixture: OutboxFixture):
    async with scene(outbox_fixture) as stage:
        await outbox_fixture.outbox.mark_awake()
        await outbox_fixture.rows("alter table dispatcher.node rename to elsewhere")
        await stage.writer.execute(INSERT)
        assert await stage.heard()
