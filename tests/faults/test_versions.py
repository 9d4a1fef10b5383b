"""An upgrade and a rollback under load: the previous version and this one on one ledger, both ways."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.install import inspect, uninstall
from dispatcher.install.options import Options
from tests.support.commands import run_dispatcher
from tests.support.previous_version import run_previous, unpack_previous
from tests.support.stack import RUN, WEB, Process, Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_previous(tmp_path_factory.mktemp("previous"))


def command(stack: Stack, package: Path | None, *arguments: str) -> str:
    """Run a command as the tables' owner, of the previous version if `package` is given; return what it said."""
    environment = {"DATABASE_URL": stack.url} | ({"PYTHONPATH": str(package)} if package else {})
    done = run_dispatcher(*arguments, cwd=stack.folder, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
async def old_ledger(stack: Stack, previous: Path) -> Stack:
    """A stack whose ledger the previous version installed, and its role of `dispatcher run`."""
    await uninstall(stack.url, Options(ledger=True))
    await asyncio.to_thread(command, stack, previous, "db", "install")
    grants = await asyncio.to_thread(command, stack, previous, "db", "sql", "grants", "--role", "dispatcher_run")
    await stack.connection.execute(grants.encode())
    return stack


async def resend(stack: Stack, *ids: int) -> None:
    """Ask for rows again, as their owner does."""
    statement = "update notify.ent_notification set notification_status = 'PENDING' where id = any(%s)"
    await stack.rows(statement, list(ids))


async def test_f220_upgrade_under_load_and_rollback_lose_and_double_nothing(old_ledger: Stack, previous: Path):
    stack = old_ledger
    old = await run_previous(stack, previous, **QUICK)
    first = [await stack.notify() for _ in range(3)]
    assert await stack.final(*first) == ["SENT"] * 3
    await stack.novu.configure(latency_ms=50)
    await stack.burst(200, enterprises=3)
    await asyncio.to_thread(command, stack, None, "db", "upgrade")  # the previous version is at work
    assert await inspect(stack.url) == []
    await stack.burst(100, enterprises=3)
    await stack.all_sent(303)
    new = await stack.running(**QUICK)
    await stack.burst(200, enterprises=3)
    await resend(stack, *first)
    await stack.all_sent(503)
    assert await old.stop() == 0
    second = [await stack.notify() for _ in range(3)]
    await resend(stack, *first)
    await stack.burst(100, enterprises=3)
    await stack.all_sent(606)
    assert await new.stop() == 0
    # Back to the previous version, which also finds what the newer one wrote.
    old = await run_previous(stack, previous, **QUICK)
    await resend(stack, *first, *second)
    await stack.burst(100, enterprises=3)
    await stack.all_sent(706)
    assert (await stack.novu.summary()).effects == 706 + 3 + 3 + 6


HEAD = "select exists (select from dispatcher.delivery where notification_id = %s and {})"
RECIPIENT = "select exists (select from dispatcher.recipient where notification_id = %s and {})"
HURRY = "update dispatcher.delivery set next_attempt_at = clock_timestamp() where notification_id = %s"
RETRACT = "update notify.ent_notification set notification_status = 'RETRACTED' where id = %s"
Start = Callable[[], Coroutine[Any, Any, Process]]


async def wait_for(stack: Stack, query: str, *parameters: object, within: float = 40) -> None:
    """Wait until a query returns true."""

    async def so() -> bool:
        return await stack.value(query, *parameters)

    await eventually(so, f"{query} {parameters}; {stack.log_tails()}", within)


@dataclass
class Rows:
    """Rows in the states in which a run leaves them."""

    sent: int
    shrunk: int
    failing: int
    dead: int
    cancelled: int
    retracted: int
    called: int


async def leave_rows(stack: Stack) -> Rows:
    """Bring rows into every state: sent, to be retried, dead, to be cancelled, and with a call on its way."""
    failing, silent = uuid4(), uuid4()
    await stack.novu.add_fault("status", status=500, recipient=str(failing))
    await stack.novu.add_fault("status", status=500, method="DELETE")
    rows = Rows(
        sent=await stack.notify(),
        shrunk=await stack.notify(recipients=[uuid4() for _ in range(3)]),
        failing=await stack.notify(recipients=[failing, uuid4()]),
        dead=await stack.notify(workflow=await stack.workflow("no-such-workflow")),
        cancelled=await stack.notify(),
        retracted=await stack.notify(),
        called=0,
    )
    assert await stack.final(rows.sent, rows.shrunk, rows.cancelled, rows.retracted) == ["SENT"] * 4
    await stack.rows(RETRACT, rows.cancelled)
    await wait_for(stack, HEAD.format("next_attempt_at is not null"), rows.failing)
    await wait_for(stack, HEAD.format("dead_lettered_at is not null"), rows.dead)
    await wait_for(stack, RECIPIENT.format("cancel_tries > 0"), rows.cancelled)
    await stack.novu.add_fault("silent", recipient=str(silent), times=1)
    rows.called = await stack.notify(recipients=[silent])
    await wait_for(stack, RECIPIENT.format("state = 'sending'"), rows.called)
    return rows


@pytest.mark.parametrize("order", ["upgrade", "rollback"])
async def test_f220_one_version_ends_what_the_other_began(old_ledger: Stack, previous: Path, order: str):
    stack = old_ledger
    if order == "rollback":
        await asyncio.to_thread(command, stack, None, "db", "upgrade")

    async def start_previous() -> Process:
        return await run_previous(stack, previous, **QUICK)

    async def start_this() -> Process:
        return await stack.running(**QUICK)

    starts: list[Start] = [start_previous, start_this]
    first, second = starts if order == "upgrade" else starts[::-1]
    process = await first()
    rows = await leave_rows(stack)
    process.kill()
    await asyncio.to_thread(command, stack, None, "db", "upgrade")
    await stack.novu.clear_faults()
    await stack.rows(RETRACT, rows.retracted)
    await stack.rows("update notify.ent_notification set recipients = recipients[:1] where id = %s", rows.shrunk)
    await resend(stack, rows.sent, rows.shrunk)
    await stack.rows(HURRY, rows.failing)
    process = await second()
    assert await stack.final(rows.sent, rows.shrunk, rows.failing, rows.called, within=60) == ["SENT"] * 4
    for row in (rows.cancelled, rows.retracted):
        await wait_for(stack, RECIPIENT.format("state = 'cancelled'"), row)
    assert await stack.status(rows.dead) == "FAILED"
    # And back: the first version retries what the second one left.
    again = await stack.value("select recipients[1] from notify.ent_notification where id = %s", rows.shrunk)
    await stack.novu.add_fault("status", status=500, recipient=str(again))
    await resend(stack, rows.shrunk)
    await wait_for(stack, HEAD.format("generation = 3 and next_attempt_at is not null"), rows.shrunk)
    assert await process.stop() == 0
    await stack.novu.clear_faults()
    await stack.rows(HURRY, rows.shrunk)
    await first()
    assert await stack.final(rows.shrunk) == ["SENT"]


async def test_f221_setting_of_a_newer_version_is_only_warned_about_after_a_rollback(stack: Stack):
    refused = stack.start(DISPATCHER_TEMPO="high")

    async def ended(process: Process) -> bool:
        return process.popen.poll() is not None

    await eventually(lambda: ended(refused), "an exit")
    assert refused.popen.returncode == 2
    assert "DISPATCHER_TEMPO is not a setting: did you mean" in refused.read_log()
    await stack.rows("insert into dispatcher.migration (name, checksum) values ('999_newer.sql', '')")
    process = await stack.running(DISPATCHER_TEMPO="high")
    assert "warning: ignored DISPATCHER_TEMPO" in process.read_log()
    assert await stack.final(await stack.notify()) == ["SENT"]
    alone = stack.start(DISPATCHER_TEMPO="high", DATABASE_URL="postgres://nobody@127.0.0.1:1/none")
    await eventually(lambda: ended(alone), "an exit")
    assert alone.popen.returncode == 2, "without an answer it may be a typing error"


async def test_f130_ledger_of_an_older_version_is_refused_with_the_remedy(old_ledger: Stack):
    stack = old_ledger
    for program in (RUN, WEB):
        early = stack.start(program)
        await eventually(lambda: ended_or_says(early, "is older than this version"), "a refusal")  # noqa: B023
        assert "as the tables' owner run dispatcher db upgrade" in early.read_log()
    assert stack.processes[0].popen.wait(10) == 2
    await asyncio.to_thread(command, stack, None, "db", "upgrade")
    await stack.running()
    assert await stack.final(await stack.notify()) == ["SENT"]


async def ended_or_says(process: Process, words: str) -> bool:
    """Return whether a process says so; an end without it is a failure."""
    says = words in process.read_log()
    assert says or process.popen.poll() is None, process.read_log()
    return says
