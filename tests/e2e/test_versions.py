"""An upgrade and a rollback under load: the previous version and this one on one ledger, both ways."""

import asyncio
from pathlib import Path

import pytest

from dispatcher.install import inspect, uninstall
from dispatcher.install.options import Options
from tests.support.commands import run_dispatcher
from tests.support.previous_version import run_previous, unpack_previous
from tests.support.stack import Stack

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


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
