"""The environment of a chaos run: its own servers, dispatchers behind proxies, and the supervisor that starts them."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from dispatcher.devstack import postgres, temporal
from dispatcher.devstack.fake_novu.process import run_fake_novu
from dispatcher.devstack.processes import free_port
from tests.support.databases import install_outbox, prepare_invariants
from tests.support.proxy import FaultProxy, proxied
from tests.support.stack import Process, Stack, open_stack

SETTINGS = {"DISPATCHER_LEASE": "6s", "DISPATCHER_SWEEP_INTERVAL": "2s", "SUBSCRIPTION_RECONNECT_DELAY": "200"}
POSTGRES = {"fsync": "off", "max_connections": "200"}
FIREWALLED_WORKFLOW = "chaos-firewalled"
HOST_TRIGGER = """
create or replace function notify.bar_row() returns trigger language plpgsql as $$
begin
  raise exception 'the host bars row %', new.id;
end $$;
create or replace trigger bar_row before update of notification_status on notify.ent_notification for each row
  when (new.description = 'barred' and old.notification_status is distinct from new.notification_status)
  execute function notify.bar_row();
"""
PATIENCE_SECONDS = 60
"""How long the run itself waits for a server it broke."""


class ControlledServer:
    """A server of ours that can be ended, softly or hard, and started again where it was."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._stack = ExitStack()
        self.lock = asyncio.Lock()
        self.pid = 0

    async def start(self) -> None:
        """Start it and wait until it answers; in a thread, because the proxies must go on."""
        server = await asyncio.to_thread(self._stack.enter_context, self._run())
        self.pid = server.pid

    async def end(self, how: signal.Signals | None = None) -> None:
        """End it as its own kind ends, or by this signal."""
        if how is not None:
            os.kill(self.pid, how)
        await asyncio.to_thread(self._stack.close)


@dataclass
class Slot:
    """One place for a dispatcher, with its own proxy to each server."""

    number: int
    proxies: dict[str, FaultProxy]
    settings: dict[str, str]
    process: Process
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended_by_us: set[int] = field(default_factory=set[int])

    @property
    def pid(self) -> int:
        """Return which process is in it now."""
        return self.process.popen.pid


@dataclass
class ChaosEnvironment:
    """Everything a fault can reach."""

    stack: Stack
    postgres: ControlledServer
    temporal: ControlledServer
    slots: list[Slot] = field(default_factory=list[Slot])
    findings: list[str] = field(default_factory=list[str])
    """Errors beside the invariants, such as a process that ended by itself."""
    starts: int = 0
    rules: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Locked while a rule is added to the fake Novu and looked up."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after the last fault."""
    stopping: bool = False
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Return how long the run has been going."""
        return time.monotonic() - self.began

    async def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """Run one statement on a fresh connection, again while PostgreSQL is away: so it must be repeatable."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.stack.url, autocommit=True) as connection:
                    cursor = await connection.execute(statement.encode(), parameters or None)
                    return await cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def value(self, statement: str, *parameters: Any) -> Any:
        """Run one statement and return its only value."""
        return (await self.rows(statement, *parameters))[0][0]

    def start(self, slot: Slot) -> None:
        """Put a new process into a slot."""
        slot.process = self.stack.start(**slot.settings)
        self.starts += 1

    async def supervise(self) -> None:
        """Start what has ended, as a platform would; a running process that ends by itself is a finding."""
        while True:
            for slot in self.slots:
                ended = slot.process.popen.poll()
                if ended is None or self.stopping or slot.lock.locked():
                    continue
                if slot.pid not in slot.ended_by_us and '"started"' in slot.process.read_log():
                    self.findings.append(f"{slot.process.log.name} ended by itself with {ended}")
                self.start(slot)
            await asyncio.sleep(0.3)

    async def heal(self) -> None:
        """End every fault that may still be in force."""
        for slot in self.slots:
            for proxy in slot.proxies.values():
                proxy.budgets = iter(())
                await proxy.heal()
                with suppress(OSError):
                    await proxy.open()
        await self.stack.novu.clear_faults()
        await self.raise_firewall()
        await self.stack.novu.configure(latency_ms=0, worker_paused=False)

    async def raise_firewall(self) -> None:
        """Refuse calls with a firewalled row, as a firewall before Novu does for one payload. It stays to the end."""
        await self.stack.novu.add_workflow(FIREWALLED_WORKFLOW)
        await self.stack.novu.add_fault("status", status=403, message="blocked", workflow=FIREWALLED_WORKFLOW)

    async def stop(self) -> None:
        """Ask every dispatcher to go; each has to leave in time and in order."""
        self.stopping = True
        for slot in self.slots:
            code = await slot.process.stop()
            if code:
                self.findings.append(f"{slot.process.log.name} left with {code} after SIGTERM")


@asynccontextmanager
async def open_environment(folder: Path, dispatchers: int) -> AsyncGenerator[ChaosEnvironment]:
    """Start servers, proxies and dispatchers for the block; all of them end with it."""
    port, temporal_port = free_port(), free_port()
    database = ControlledServer(lambda: postgres.run_postgres(folder / "postgres", port=port, settings=POSTGRES))
    flows = ControlledServer(lambda: temporal.run_temporal(folder / "temporal", port=temporal_port, keep=True))
    async with AsyncExitStack() as exits:
        for server in (database, flows):
            await server.start()
            exits.push_async_callback(server.end)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        await install_outbox(url)
        await prepare_invariants(url)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(HOST_TRIGGER.encode())
        novu = await exits.enter_async_context(run_fake_novu())
        stack = await exits.enter_async_context(open_stack(url, f"127.0.0.1:{temporal_port}", novu, folder))
        environment = ChaosEnvironment(stack, database, flows)
        await environment.raise_firewall()
        for number in range(dispatchers):
            environment.slots.append(await open_slot(environment, number, exits))
        yield environment


async def open_slot(environment: ChaosEnvironment, number: int, exits: AsyncExitStack) -> Slot:
    """Open the proxies of one slot and start its dispatcher."""
    stack = environment.stack
    database = int(stack.url.rsplit("/", 1)[0].rsplit(":", 1)[1])
    ports = {
        "postgres": database,
        "listen": database,
        "temporal": int(stack.temporal_address.rsplit(":", 1)[1]),
        "novu": stack.novu_port,
    }
    roads = {name: await exits.enter_async_context(proxied("127.0.0.1", port)) for name, port in ports.items()}
    through = {name: f"postgresql://postgres@127.0.0.1:{roads[name].port}/postgres" for name in ("postgres", "listen")}
    settings = SETTINGS | {
        "DATABASE_URL": through["postgres"],
        "DISPATCHER_LISTEN_DATABASE_URL": through["listen"],
        "TEMPORAL_ADDRESS": f"127.0.0.1:{roads['temporal'].port}",
        "NOVU_API_URL": f"http://127.0.0.1:{roads['novu'].port}",
    }
    environment.starts += 1
    return Slot(number, roads, settings, stack.start(**settings))
