"""A copy of a database sends and cancels nothing until a person decides; the original goes on without a person."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from dispatcher.devstack.fake_novu.process import run_fake_novu
from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import install
from tests.e2e.health_answers import answers
from tests.support.commands import run_dispatcher
from tests.support.databases import restored_copy
from tests.support.run_doctor import run_doctor
from tests.support.stack import RUN, WEB, Process, Stack, open_stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_SWEEP_INTERVAL": "1s"}
ELSEWHERE = 'update dispatcher.installation set bound_to = bound_to || \'{"database": "1"}\''


@pytest.fixture
async def original(stack: Stack) -> Stack:
    """Return the stack, bound to its database."""
    await install(stack.url)
    return stack


async def command(stack: Stack, *arguments: str, code: int = 0, **settings: str) -> str:
    """Run a command as the tables' owner; return what it said."""
    environment = {
        "DATABASE_URL": stack.url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "NOVU_SECRET_KEY": "unused",
        **settings,
    }
    done = await asyncio.to_thread(run_dispatcher, *arguments, cwd=stack.folder, environment=environment)
    assert done.returncode == code, done
    return done.stdout + done.stderr


async def waits(process: Process) -> None:
    """Wait until the process says that it waits for a decision; it is not ready then."""
    async with await process.http() as http:
        await answers(http, "/readyz", 503, broken=["outbox"])
        assert "so nothing is sent" in (await http.get("/status")).text
        assert (await http.get("/livez")).status_code == 200


async def count_cancels(stack: Stack) -> int:
    """Return how many requests were made to take something back."""
    return sum(request.method == "DELETE" for request in await stack.novu.requests())


@pytest.fixture
async def copy(original: Stack, postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Stack]:
    """Return a copy of the original, with the same Temporal, after the original sent a row and planned one.

    It has a Novu of its own, so that its calls can be told apart.
    """
    (folder := tmp_path / "copy").mkdir()
    running = await original.running(**QUICK)
    assert await original.final(await original.notify()) == ["SENT"]
    await original.notify(scheduled_for="2999-01-01")
    async with (
        run_fake_novu() as novu,
        restored_copy(postgres_server, original.url) as url,
        open_stack(url, original.temporal_address, novu, folder) as copy,
    ):
        copy.queue = original.queue
        yield copy
        for process in copy.processes:
            process.kill()
    assert await original.final(await original.notify()) == ["SENT"]
    await running.stop()


async def test_f205_copy_touches_nothing_of_the_original_and_sends_after_renewal(original: Stack, copy: Stack):
    [[sent]] = await copy.rows("select id from notify.ent_notification where notification_status = 'SENT'")
    [[planned]] = await copy.rows("select id from notify.ent_notification where notification_status = 'PENDING'")
    process = copy.start(**QUICK)
    await waits(process)
    early = await copy.notify()
    await copy.rows("update notify.ent_notification set notification_status = 'RETRACTED' where id = %s", sent)
    await command(copy, "sweep", code=2)
    web = copy.start(WEB)
    async with await web.http() as http:
        await answers(http, "/readyz", 503, broken=["postgres"])
    assert "or it was moved" in (await run_doctor(copy)).checks["ledger"]["value"]
    assert '"held": 2' in await command(copy, "db", "renew", "--yes", "--json")
    async with await process.http() as http:
        await answers(http, "/readyz", 200)
    assert await copy.final(await copy.notify()) == ["SENT"]

    async def detected() -> bool:
        return "retraction" in (await copy.details(sent) or {})

    await eventually(detected, f"a retraction without a cancel; {copy.log_tails()}")
    assert await copy.status(early) == "PENDING"
    assert await count_cancels(copy) == 0
    assert process.read_log().count('"installation_elsewhere"') == 1
    assert process.read_log().count('"outage_began"') == 1
    await command(copy, "db", "release", "--yes")
    assert await copy.final(early) == ["SENT"]
    await copy.rows("update notify.ent_notification set scheduled_for = now() where id = %s", planned)
    assert await copy.final(planned) == ["SENT"]
    await original.rows("update notify.ent_notification set scheduled_for = now() where id = %s", planned)
    assert await original.final(planned) == ["SENT"]
    ids = [{effect.transaction_id for effect in await each.novu.effects()} for each in (original, copy)]
    assert (len(ids[0]), len(ids[1]), ids[0] & ids[1]) == (2, 3, set()), "the planned row was sent by both"


async def test_f206_original_goes_on_by_the_setting_or_by_a_persons_word(original: Stack):
    stack = original
    name = str(await stack.value("select id from dispatcher.installation"))
    await stack.rows(ELSEWHERE)
    confirmed = await stack.running(DISPATCHER_INSTALLATION=name)
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert '"installation_confirmed"' in confirmed.read_log()
    assert await stack.value("select restored_at is not null from dispatcher.installation"), "rows are looked up first"
    await confirmed.stop()
    waiting = stack.start()
    await waits(waiting)
    await command(stack, "db", "adopt", "--yes")
    assert await stack.final(await stack.notify()) == ["SENT"], "a row that was committed later is not looked up"
    assert '"installation_confirmed"' not in waiting.read_log()


@pytest.mark.parametrize("role", ["all", "dispatch", "worker"])
async def test_f206_setting_of_another_installation_stops_every_role(original: Stack, role: str):
    process = original.start((*RUN, "--role", role), DISPATCHER_INSTALLATION=str(uuid4()))
    await waits(process)
    assert await process.stop(10) == 0
    said = await command(original, "sweep", code=2, DISPATCHER_INSTALLATION=str(uuid4()))
    assert "else correct the setting" in said
