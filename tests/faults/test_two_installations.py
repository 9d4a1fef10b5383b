"""Two databases on one Temporal namespace and task queue: each installation serves its own workflows only."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from dispatcher.devstack.fake_novu.process import run_fake_novu
from dispatcher.devstack.postgres import PostgresServer
from dispatcher.models.claims import ClaimLimits, WorkflowStart
from dispatcher.models.workflow_contract import WORKFLOW, Batch, batch_queue
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import check_installed, open_pool
from tests.support.databases import cloned
from tests.support.outbox_fixture import RELATIONS
from tests.support.run_doctor import run_doctor
from tests.support.stack import Stack, open_stack
from tests.support.waits import eventually


@pytest.fixture
async def other(
    stack: Stack, postgres_server: PostgresServer, stack_template: str, tmp_path: Path
) -> AsyncIterator[Stack]:
    """Another database on the same Temporal server and queue, with a Novu of its own."""
    (folder := tmp_path / "other").mkdir()
    async with (
        run_fake_novu() as novu,
        cloned(postgres_server, stack_template) as url,
        open_stack(url, stack.temporal_address, novu, folder) as other,
    ):
        other.queue = stack.queue
        yield other


async def short_id(stack: Stack) -> str:
    """Return the first 8 digits of the installation's id."""
    return (await stack.value("select id::text from dispatcher.installation"))[:8]


async def claim_as_earlier_version(stack: Stack) -> list[WorkflowStart]:
    """Claim due rows and start their workflows as the version before did: on the queues of the setting's own name."""
    pool = await open_pool(stack.url)
    try:
        status = await check_installed(pool, "notify.ent_notification")
        outbox = OutboxStore(pool, relations=RELATIONS, status=status, node="earlier")
        limits = ClaimLimits(1000, 2000, 100)
        claim = await outbox.claim(uuid.uuid4().hex[:12], timedelta(hours=1), limits)
    finally:
        await pool.close()
    client = await Client.connect(stack.temporal_address)
    for start in claim.starts:
        queue = stack.queue if len(start.notification_ids) == 1 else batch_queue(stack.queue)
        await client.start_workflow(
            WORKFLOW,
            Batch(start.notification_ids),
            id=start.workflow_id,
            task_queue=queue,
            task_timeout=timedelta(seconds=5),
        )
    return claim.starts


async def test_f200_two_installations_on_one_queue_send_all_rows_at_once(stack: Stack, other: Stack):
    await asyncio.gather(stack.running(), other.running())
    for each in (stack, other):
        await each.burst(300, enterprises=5)
        await each.notify()
    await asyncio.gather(stack.all_sent(301, within=15), other.all_sent(301, within=15))


async def test_f200_workflow_of_another_installation_on_the_shared_queue_is_left_to_it(stack: Stack, other: Stack):
    mine = await stack.running()
    row = await other.notify()
    await claim_as_earlier_version(other)
    await other.burst(30)
    await claim_as_earlier_version(other)
    ids = {found for (found,) in await other.rows("select workflow_id from dispatcher.delivery")}
    client = await Client.connect(stack.temporal_address)

    async def left() -> bool:
        return mine.read_log().count('"foreign_workflow_left"') >= 1

    await eventually(left, f"a workflow that was left; {stack.log_tails()}")
    for workflow_id in ids:
        found = await client.get_workflow_handle(workflow_id).describe()
        assert found.status is WorkflowExecutionStatus.RUNNING, "neither completed nor failed by the other one"
    await other.running()
    await other.all_sent(31, within=60)
    assert await other.final(row) == ["SENT"]
    assert await other.rows("select from dispatcher.delivery where attempts <> 1 or last_error is not null") == []
    assert await stack.rows("select from dispatcher.delivery") == []


async def test_f201_workflows_that_an_earlier_version_left_open_are_finished(stack: Stack):
    await stack.notify()
    singles = await claim_as_earlier_version(stack)
    await stack.burst(30)
    batches = await claim_as_earlier_version(stack)
    assert [len(start.notification_ids) for start in (*singles, *batches)] == [1, 30]
    await stack.running()
    await stack.all_sent(31, within=20)
    assert await stack.rows("select from dispatcher.delivery where attempts <> 1") == []


async def test_f202_doctor_names_another_installation_on_the_queue(stack: Stack, other: Stack):
    await asyncio.gather(stack.running(), other.running())
    assert await stack.final(await stack.notify()) == ["SENT"]

    async def named() -> bool:
        found = (await run_doctor(stack)).checks["pollers"]
        return found["verdict"] == "warn" and await short_id(other) in found["value"]

    await eventually(named, f"a finding that names {await short_id(other)}; {(await run_doctor(stack)).checks}", 40)
    value = (await run_doctor(stack)).checks["pollers"]["value"]
    assert await short_id(stack) not in value.replace(f"{stack.queue}-{await short_id(stack)}", "")
