"""A whole stack for one test: a database, Temporal, a fake Novu, and dispatcher processes to start and kill."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from dispatcher.devstack.fake_novu.process import FakeNovu, run_fake_novu
from dispatcher.devstack.processes import accepts_connections
from dispatcher.models.workflow_contract import TaskQueues
from tests.support.waits import eventually

WORKFLOW = "default-in-app"
RUN = (sys.executable, "-m", "dispatcher", "run")
WEB = (sys.executable, "-m", "dispatcher", "web")
RUN_ROLE = "dispatcher_run"
"""Who `dispatcher run` connects as: a role with what `dispatcher db sql grants` gives it, and nothing else."""


def as_run_role(url: str) -> str:
    """Return the URL of the database's owner as the one of `dispatcher run`."""
    return url.replace("//postgres@", f"//{RUN_ROLE}@")


@dataclass
class Process:
    """One `dispatcher run`."""

    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it without warning."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    async def stop(self, within: float = 25) -> int:
        """Ask it to stop; return its exit code."""
        self.popen.terminate()

        async def ended() -> bool:
            return self.popen.poll() is not None

        await eventually(ended, f"exit after SIGTERM; log:\n{self.read_log()[-3000:]}", within)
        assert self.popen.returncode is not None
        return self.popen.returncode

    def read_log(self) -> str:
        """Return what it logged."""
        return self.log.read_text()

    async def http(self, **options: Any) -> httpx.AsyncClient:
        """Return a client of its health port, as soon as that is bound."""

        async def told() -> str | None:
            assert self.popen.poll() is None, self.read_log()
            found = re.search(r'"event": "http".*?"port": (\d+)', self.read_log())
            return found and found[1]

        port = await eventually(told, "a health port", 30)
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False, **options)


@dataclass
class Stack:
    """The tools of one test."""

    url: str
    connection: psycopg.AsyncConnection[Any]
    temporal_address: str
    novu: FakeNovu
    folder: Path
    queue: str = field(default_factory=lambda: f"test-{uuid4().hex[:8]}")
    processes: list[Process] = field(default_factory=list[Process])
    exits: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """Run one statement and return its rows."""
        cursor = await self.connection.execute(statement.encode(), parameters)
        # Not "if description": a select without columns has an empty one, and rows all the same.
        return await cursor.fetchall() if cursor.description is not None else []

    async def value(self, statement: str, *parameters: Any) -> Any:
        """Run one statement and return its only value."""
        return (await self.rows(statement, *parameters))[0][0]

    async def workflow(self, key: str = WORKFLOW, *, publish: str = "PUBLISH", deactivated: bool = False) -> int:
        """Return the id of a workflow row, made when missing."""
        await self.rows(
            "insert into notify.ent_notification_workflow (name, workflow_key, workflow_type, publish_status,"
            " deactivated, default_channels) values (%s, %s, 'STATIC', %s, %s, '{IN_APP}') on conflict do nothing",
            f"{key} {uuid4().hex[:6]}",
            key,
            publish,
            deactivated,
        )
        return await self.value("select id from notify.ent_notification_workflow where workflow_key = %s", key)

    async def notify(self, **columns: Any) -> int:
        """Insert one published notification; return its id."""
        row: dict[str, Any] = {
            "name": f"n {uuid4().hex}",
            "publish_status": "PUBLISH",
            "payload": '{"title": "Lift", "message": "stands still"}',
            "recipients": [uuid4()],
        }
        row["notification_workflow_id"] = columns.pop("workflow", None) or await self.workflow()
        row |= columns
        names = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        statement = f"insert into notify.ent_notification ({names}) values ({places}) returning id"
        return await self.value(statement, *row.values())

    async def burst(self, count: int, *, enterprises: int = 1) -> None:
        """Insert `count` published notifications in one statement."""
        tenants = [uuid4() for _ in range(enterprises)]
        await self.rows(
            "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
            " enterprise_id) select 'burst ' || gen_random_uuid(), 'PUBLISH', %s, jsonb_build_object('n', i),"
            " array[gen_random_uuid()], (%s::uuid[])[1 + i %% %s] from generate_series(1, %s) i",
            await self.workflow(),
            tenants,
            enterprises,
            count,
        )

    async def status(self, notification_id: int) -> str:
        """Return a row's status."""
        return await self.value(
            "select notification_status from notify.ent_notification where id = %s", notification_id
        )

    async def final(self, *ids: int, within: float = 30) -> list[str]:
        """Wait until the rows have a final status and return it."""

        async def done() -> list[str] | None:
            rows = await self.rows(
                "select notification_status::text from notify.ent_notification where id = any(%s) order by id",
                list(ids),
            )
            return None if any(status in ("PENDING", "PROCESSING") for (status,) in rows) else [row[0] for row in rows]

        return await eventually(done, f"final status of {ids}; {self.log_tails()}", within)

    async def counts(self) -> dict[str, int]:
        """Return how many rows have which status."""
        return dict(
            await self.rows("select notification_status::text, count(*) from notify.ent_notification group by 1")
        )

    async def all_sent(self, count: int, within: float = 60) -> None:
        """Wait until `count` rows are SENT."""

        async def done() -> bool:
            return (await self.counts()).get("SENT", 0) >= count

        await eventually(done, f"{count} rows SENT; {self.log_tails()}", within)

    async def details(self, notification_id: int) -> dict[str, Any]:
        """Return a row's error_details."""
        return await self.value("select error_details from notify.ent_notification where id = %s", notification_id)

    async def quiet(self) -> None:
        """Wait until every due row is final and no row is leased."""

        async def idle() -> bool:
            return not await self.rows(
                "select from notify.ent_notification where publish_status = 'PUBLISH' and not deactivated"
                " and notification_status in ('PENDING', 'PROCESSING')"
                " and (scheduled_for is null or scheduled_for <= clock_timestamp())"
                " union all select from dispatcher.delivery where lease_until is not null"
            )

        await eventually(idle, f"a quiet house; {await self.counts()} {self.log_tails()}", 90)

    def start(self, program: Sequence[str] = RUN, *, under: Sequence[str] = (), **settings: str) -> Process:
        """Start `dispatcher run`, or another program, logging to a file; `under` is a command that runs it."""
        log = self.folder / f"dispatcher-{len(self.processes)}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": as_run_role(self.url),
            "TEMPORAL_ADDRESS": self.temporal_address,
            "TEMPORAL_TASK_QUEUE": self.queue,
            "NOVU_API_URL": self.novu.url,
            "NOVU_SECRET_KEY": self.novu.api_key,
            "DISPATCHER_LOG_FORMAT": "json",
            "DISPATCHER_HTTP_PORT": "0",
            **settings,
        }
        with log.open("wb") as words:
            popen = subprocess.Popen(
                [*under, *program],
                env=environment,
                cwd=self.folder,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        self.processes.append(Process(popen, log))
        return self.processes[-1]

    async def running(self, program: Sequence[str] = RUN, **settings: str) -> Process:
        """Start `dispatcher run` and wait until its listener is proven."""
        process = self.start(program, **settings)

        async def ready() -> bool:
            assert process.popen.poll() is None, process.read_log()
            return '"listening"' in process.read_log() or await self.listening(f"%-{process.popen.pid}-%") == 1

        await eventually(ready, f"a proven listener; log:\n{process.read_log()}")
        return process

    async def asleep(self, within: float = 30) -> None:
        """Wait until every dispatcher sleeps: from then on only a NOTIFY or a sweep starts a search."""

        async def so() -> bool:
            return await self.value("select bool_and(awake_until is null) from dispatcher.node")

        await eventually(so, "a node that sleeps", within)

    async def stop_novu(self) -> None:
        """Take Novu away; connections are refused from now on."""
        os.kill(self.novu.pid, signal.SIGKILL)

        async def refused() -> bool:
            return not accepts_connections(self.novu_port)

        await eventually(refused, "Novu to be gone")

    async def start_novu(self) -> None:
        """Bring Novu back where it was; it remembers nothing."""
        self.novu = await self.exits.enter_async_context(run_fake_novu(port=self.novu_port))

    @property
    def novu_port(self) -> int:
        """Return where Novu listens."""
        return int(self.novu.url.rsplit(":", 1)[1])

    async def queues(self) -> TaskQueues:
        """Return the task queues of this installation."""
        return TaskQueues.of_installation(self.queue, await self.value("select id from dispatcher.installation"))

    async def listening(self, node: str = "%") -> int:
        """Return how many nodes are in event mode."""
        return await self.value("select count(*) from dispatcher.node where mode = 'EVENT' and id like %s", node)

    def log_tails(self) -> str:
        """Return the end of every log, for a failing test."""
        return "\n".join(f"{process.log.name}:\n{process.read_log()[-2000:]}" for process in self.processes)


@asynccontextmanager
async def open_stack(url: str, temporal_address: str, novu: FakeNovu, folder: Path) -> AsyncGenerator[Stack]:
    """Open a stack; processes that still run at the end are killed by their pid."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    stack = Stack(url, connection, temporal_address, novu, folder)
    try:
        yield stack
    finally:
        for process in stack.processes:
            if process.popen.poll() is None:
                process.kill()
        await stack.exits.aclose()
        await connection.close()
