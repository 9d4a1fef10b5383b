"""Two outboxes in one database: the commands and processes of the second one are refused in words."""

import asyncio

import pytest

from tests.e2e.health_answers import answers
from tests.support.commands import run_dispatcher
from tests.support.run_doctor import run_doctor
from tests.support.stack import WEB, Stack

RECORD = "update dispatcher.installation set outbox = %s, outbox_oid = %s::regclass"


async def create_second(stack: Stack) -> None:
    """Create a second outbox."""
    await stack.rows("create schema two")
    await stack.rows("create table two.outbox (like notify.ent_notification including all)")
    await stack.rows("create table two.outbox_workflow (like notify.ent_notification_workflow including all)")


@pytest.mark.parametrize(
    ("first", "second"), [("notify.ent_notification", "two.outbox"), ("two.outbox", "notify.ent_notification")]
)
async def test_f203_second_outbox_is_refused_by_each_process(stack: Stack, first: str, second: str):
    await create_second(stack)
    await stack.rows(RECORD, first, first)
    row = await stack.notify(scheduled_for="2999-01-01")
    settings = {"DISPATCHER_OUTBOX": second, "DATABASE_URL": stack.url}
    words = f"belongs to the outbox {first}, not to"
    run, web = stack.start(**settings), stack.start(WEB, **settings)
    environment = {**settings, "TEMPORAL_ADDRESS": stack.temporal_address, "NOVU_SECRET_KEY": "unused"}
    for command in (["sweep"], ["list"], ["retract", str(row), "--yes"], ["db", "upgrade"], ["db", "status"]):
        done = await asyncio.to_thread(run_dispatcher, *command, cwd=stack.folder, environment=environment)
        assert done.returncode == 2, done
        assert words in done.stderr
        assert f"set DISPATCHER_OUTBOX={first}" in done.stderr
    assert run.popen.wait(30) == 2
    assert words in run.read_log()
    async with await web.http() as http:
        await answers(http, "/readyz", 503, broken=["postgres"])
        assert words in (await http.get("/status")).text
    found = (await run_doctor(stack, DISPATCHER_OUTBOX=second)).checks["outbox"]
    assert (found["verdict"], words in found["value"]) == ("fail", True)
    assert await stack.status(row) == "PENDING"


async def test_f204_renamed_outbox_is_served(stack: Stack):
    await stack.rows("alter table notify.ent_notification rename to sendings")
    await stack.rows("alter table notify.ent_notification_workflow rename to sendings_workflow")
    process = await stack.running(DISPATCHER_OUTBOX="notify.sendings")
    await process.stop()
    await stack.rows("alter table notify.sendings rename to ent_notification")
    await stack.rows("alter table notify.sendings_workflow rename to ent_notification_workflow")


async def test_f203_ledger_of_an_earlier_version_is_served(stack: Stack):
    await stack.rows(
        "alter table dispatcher.installation drop column outbox, drop column outbox_oid, drop column bound_to"
    )
    await stack.running()
    assert await stack.final(await stack.notify()) == ["SENT"]
