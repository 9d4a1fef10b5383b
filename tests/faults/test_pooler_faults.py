"""A real PgBouncer between us and PostgreSQL, in both modes, recycled and killed."""

import asyncio
import itertools
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from dispatcher.devstack.postgres import PostgresServer
from tests.faults.pooler import SESSIONS, Pooler, pooling
from tests.faults.waits import effects_are_exactly, proven
from tests.support.commands import run_dispatcher
from tests.support.run_doctor import run_doctor
from tests.support.stack import Stack
from tests.support.stack_cleanup import no_pending_cancels
from tests.support.waits import eventually

counter = itertools.count()
SETTINGS = ("search_path", "TimeZone", "statement_timeout", "enable_seqscan", "row_security", "dispatcher.quiet")
QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


@pytest.fixture
def folder(stack_folder: Path) -> Path:
    return stack_folder / f"pooler-{next(counter)}"


@pytest.fixture
def transactions(folder: Path, postgres_server: PostgresServer) -> Iterator[Pooler]:
    with pooling(folder, postgres_server.port, "transaction") as pooler:
        yield pooler


async def settings_of_every_session(url: str) -> set[tuple[str, ...]]:
    """Return what the owner's programs find in the sessions that they share with us."""
    found: set[tuple[str, ...]] = set()
    query = "select " + ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in SETTINGS)
    connections = [await psycopg.AsyncConnection.connect(url, prepare_threshold=None) for _ in range(SESSIONS)]
    for connection in connections:  # each in a transaction that stays open, so each in a session of its own
        cursor = await connection.execute(query.encode())
        found |= {tuple(row) for row in await cursor.fetchall()}
    for connection in connections:
        await connection.rollback()
        await connection.close()
    return found


async def transactions_through(pooler: Pooler, url: str) -> int:
    """Return how many transactions the pooler carried for the database."""
    rows = await pooler.command(b"show stats_totals")
    return next((int(row[1]) for row in rows if row[0] == url.rsplit("/", 1)[1]), 0)


@pytest.mark.slow
async def test_f05_transaction_pooler_for_everything_means_polling(stack: Stack, transactions: Pooler):
    url = transactions.url(stack.url)
    before = await settings_of_every_session(url)
    process = stack.start(DATABASE_URL=url, **QUICK)

    async def told() -> bool:
        return "not_listening" in process.read_log()

    await eventually(told, f"the canary to fail; log:\n{process.read_log()}", 20)
    rows = [await stack.notify() for _ in range(3)]
    assert await stack.final(*rows, within=15) == ["SENT"] * 3
    await stack.burst(300)
    await stack.all_sent(303)
    assert await transactions_through(transactions, url) > 50
    assert await stack.listening() == 0
    assert '"listening"' not in process.read_log()
    assert process.read_log().count("not_listening") == 1
    assert "DISPATCHER_LISTEN_DATABASE_URL" in process.read_log()
    assert await settings_of_every_session(url) == before, "nothing of ours is left in shared sessions"
    await effects_are_exactly(stack, 303)


@asynccontextmanager
async def others(url: str) -> AsyncGenerator[None]:
    """Let an application use the pooler's sessions meanwhile, more often than not all but one."""

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while True:
                await connection.execute("select pg_sleep(random() * 0.01)")

    tasks = [asyncio.create_task(work()) for _ in range(SESSIONS - 1)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def command(stack: Stack, url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the pooler, without a terminal."""
    return run_dispatcher(*arguments, cwd=stack.folder, environment={"DATABASE_URL": url, **settings})


@pytest.mark.slow
async def test_f216_hostile_defaults_behind_a_pooler_have_no_effect(stack: Stack, transactions: Pooler):
    for setting in ("array_nulls = off", "quote_all_identifiers = on", "default_transaction_read_only = on"):
        await stack.rows(f"alter database {stack.url.rsplit('/', 1)[1]} set {setting}")
    url = transactions.url(stack.url)
    before = await settings_of_every_session(url)
    stack.start(DATABASE_URL=url, **QUICK)
    sent, retracted = await stack.notify(), await stack.notify()
    assert await stack.final(sent, retracted, within=20) == ["SENT"] * 2
    for arguments in (["db", "status"], ["status"], ["retract", str(retracted), "-y"]):
        done = await asyncio.to_thread(command, stack, url, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    found = await run_doctor(stack, DATABASE_URL=url)
    assert "dispatcher overrides" in found.checks["server"]["value"]
    assert found.verdicts("fail") == ["notify"], "a pooler in transaction mode"
    assert await settings_of_every_session(url) == before, "nothing of ours is left in shared sessions"
    await effects_are_exactly(stack, 2)
    await no_pending_cancels(stack)  # while the pooler is there


async def test_f05_operator_commands_leave_nothing_in_shared_sessions(stack: Stack, transactions: Pooler):
    url = transactions.url(stack.url)
    before = await settings_of_every_session(url)
    carried = await transactions_through(transactions, url)
    row = await stack.notify(notification_status="FAILED")
    for arguments in (
        ["status"],
        ["db", "status"],
        ["db", "wait"],
        ["list"],
        ["show", str(row)],
        ["retry", str(row), "--yes"],
        ["retract", str(row), "-y"],
    ):
        done = await asyncio.to_thread(command, stack, url, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert await stack.final(row) == ["RETRACTED"]
    async with others(url):
        for _ in range(3):
            refused = await asyncio.to_thread(command, stack, url, "db", "upgrade")
            assert (refused.returncode, "a pooler in transaction mode" in refused.stderr) == (2, True), refused
    unheard = await asyncio.to_thread(command, stack, url, "db", "verify")
    assert (unheard.returncode, "DISPATCHER_LISTEN_DATABASE_URL" in unheard.stderr) == (1, True)
    direct = await asyncio.to_thread(command, stack, url, "db", "upgrade", DISPATCHER_LISTEN_DATABASE_URL=stack.url)
    assert direct.returncode == 0, direct.stderr
    assert await transactions_through(transactions, url) >= carried + 10
    assert await settings_of_every_session(url) == before, "nothing of ours is left in shared sessions"


async def test_f05_doctor_names_a_transaction_pooler_and_leaves_nothing_in_its_sessions(
    stack: Stack, transactions: Pooler
):
    url = transactions.url(stack.url)
    before = await settings_of_every_session(url)
    carried = await transactions_through(transactions, url)
    found = await run_doctor(stack, DATABASE_URL=url)
    assert (found.code, found.verdicts("fail")) == (1, ["notify"]), found
    assert found.checks["pooler"]["value"] == "a pooler in transaction mode, also for LISTEN"
    assert "DISPATCHER_LISTEN_DATABASE_URL" in found.checks["notify"]["remedy"]
    found = await run_doctor(stack, DATABASE_URL=url, DISPATCHER_LISTEN_DATABASE_URL=stack.url)
    assert (found.code, found.checks["notify"]["verdict"]) == (0, "pass"), found
    assert found.checks["pooler"]["value"] == "a pooler in transaction mode; LISTEN has its own URL"
    assert await transactions_through(transactions, url) >= carried + 20
    assert await settings_of_every_session(url) == before


@pytest.mark.slow
async def test_f05_direct_listen_connection_beside_a_pooler_means_event_mode(stack: Stack, transactions: Pooler):
    url = transactions.url(stack.url)
    process = await stack.running(
        DATABASE_URL=url, DISPATCHER_LISTEN_DATABASE_URL=stack.url, DISPATCHER_SWEEP_INTERVAL="60s"
    )
    await proven(process, 1)
    await stack.burst(100)
    await stack.all_sent(100)
    workflow = await stack.workflow()
    # Producers share the pooler's sessions with us, and send NOTIFY all the same.
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None) as producer:
        for count in range(101, 107):
            await producer.execute(
                "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload,"
                " recipients) values ('n ' || gen_random_uuid(), 'PUBLISH', %s, '{}', array[gen_random_uuid()])",
                [workflow],
            )
            await stack.all_sent(count, within=5)
    assert await transactions_through(transactions, url) > 50
    assert "not_listening" not in process.read_log()
    await effects_are_exactly(stack, 106)


@pytest.mark.slow
async def test_f06_restarted_session_pooler_means_event_mode_again(
    stack: Stack, folder: Path, postgres_server: PostgresServer
):
    with pooling(folder, postgres_server.port, "session") as pooler:
        process = await stack.running(DATABASE_URL=pooler.url(stack.url), SUBSCRIPTION_RECONNECT_DELAY="100", **QUICK)
        await proven(process, 1)
        assert await stack.final(await stack.notify(), within=5) == ["SENT"]
        await pooler.command(b"reconnect")
        await stack.burst(50)
        await stack.all_sent(51)
        pooler.kill()
    row = await stack.notify()
    with pooling(folder, postgres_server.port, "session", port=pooler.port):
        assert await stack.final(row) == ["SENT"]
        await proven(process, 2)
        assert await stack.final(await stack.notify(), within=5) == ["SENT"]
        assert process.popen.poll() is None
        await effects_are_exactly(stack, 53)
        assert await process.stop() == 0
