"""Faults of Temporal: the server dies, forgets, throttles or stands still; workflows are ended, reset, not served."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from facts import effects_are_exactly
from house import House, Process, eventually
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.devstack import temporal

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
ALTERED = str(Path(__file__).parent.with_name("altered.py"))
WITHOUT_WORKER = (sys.executable, ALTERED, "without-worker")
FIRST_TASK = 4
"""The event with which a workflow's first task ends: it scheduled the activity, or waits for another try."""
BAD_BUILD = (sys.executable, ALTERED, "bad-build")


async def workflow_of(house: House, row: int) -> str:
    """Return the id of a row's workflow, once it is claimed."""

    async def claimed() -> str | None:
        rows = await house.rows("select workflow_id from dispatcher.delivery where notification_id = %s", row)
        return rows[0][0] if rows else None

    return await eventually(claimed, "a claim")


async def described(house: House, workflow_id: str) -> WorkflowExecutionDescription:
    """Return what Temporal says about a workflow, once it knows it."""
    client = await Client.connect(house.temporal_address)

    async def known() -> WorkflowExecutionDescription | None:
        try:
            return await client.get_workflow_handle(workflow_id).describe()
        except RPCError:
            return None

    return await eventually(known, f"the workflow {workflow_id}")


async def refused_once(house: House, row: int) -> None:
    """Wait until the row's first call was refused and it waits for its retry."""
    refused = "select count(*) from dispatcher.recipient where notification_id = %s and state = 'unknown'"
    again = "select count(*) from dispatcher.recipient where notification_id = %s and outcome is not null"
    await eventually(lambda: house.value(f"select ({refused}) + ({again}) > 0", row, row), "a first answer")


async def attempts(house: House) -> int:
    """Return the highest number of runs that any row needed."""
    return await house.value("select max(attempts) from dispatcher.delivery")


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False], ids=["file", "memory"])
async def test_f60_f61_a_server_killed_and_started_again(
    house: House, tmp_path_factory: pytest.TempPathFactory, *, keep: bool
):
    folder = tmp_path_factory.mktemp("temporal")
    await house.novu.add_fault("status", status=503, nth=2, retry_after="3")
    with temporal.running(folder, keep=keep) as server:
        house.temporal_address = server.address
        await house.running(**QUICK)
        settled = await house.notify()
        assert await house.final(settled) == ["SENT"]
        waiting = await house.notify()
        await refused_once(house, waiting)
        workflow_id = await workflow_of(house, waiting)
        assert (await described(house, workflow_id)).status is WorkflowExecutionStatus.RUNNING
        os.kill(server.pid, signal.SIGKILL)
    with temporal.running(folder, keep=keep, port=server.port):
        client = await eventually(lambda: connected(server.address), "a server that is up again")
        if keep:
            assert await client.get_workflow_handle(workflow_id).describe()
        else:
            with pytest.raises(RPCError, match="not found"):
                await client.get_workflow_handle(await workflow_of(house, settled)).describe()
        assert await house.final(waiting, within=40) == ["SENT"]
        assert await house.final(await house.notify(), within=30) == ["SENT"]
        assert await attempts(house) == (1 if keep else 2)
        await effects_are_exactly(house, 3)
        house.processes[0].kill()


async def connected(address: str) -> Client | None:
    """Return a client; None while the port is open and the server behind it is not ready."""
    try:
        return await Client.connect(address)
    except RuntimeError:
        return None


async def limited(address: str) -> bool:
    """Spend what the namespace may do in a second; return whether the server refused some of it."""
    client = await Client.connect(address)
    nobody = DescribeWorkflowExecutionRequest(namespace="default", execution=WorkflowExecution(workflow_id="nobody's"))
    calls = (client.workflow_service.describe_workflow_execution(nobody) for _ in range(30))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    statuses = {answer.status for answer in answers if isinstance(answer, RPCError)}
    return RPCStatusCode.RESOURCE_EXHAUSTED in statuses


@pytest.mark.slow
async def test_f62_a_namespace_that_may_do_little_per_second(house: House, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("temporal")
    limits = {"frontend.namespaceRPS": 10, "frontend.namespaceBurstRatio": 1.0}
    with temporal.running(folder, settings=limits) as server:
        house.temporal_address = server.address
        process = await house.running(DISPATCHER_BATCH_SIZE="1", **QUICK)
        await house.burst(30)
        assert await limited(server.address)
        await house.all_sent(30)
        assert await attempts(house) == 1
        assert process.words().count("\n") < 100
        await effects_are_exactly(house, 30)
        process.kill()


@pytest.mark.slow
async def test_f64_nobody_polls(house: House):
    await house.running(WITHOUT_WORKER, **QUICK)
    rows = [await house.notify(), await house.notify()]
    workflow_id = await workflow_of(house, rows[0])
    first = await described(house, workflow_id)
    # The lease runs out more than once; nothing is started again.
    late = "select clock_timestamp() > created_at + interval '8 s' from notify.ent_notification where id = %s"
    await eventually(lambda: house.value(late, rows[1]), "eight seconds")
    assert (await described(house, workflow_id)).run_id == first.run_id
    await house.running(**QUICK)
    assert await house.final(*rows) == ["SENT"] * 2
    assert await attempts(house) == 1
    await effects_are_exactly(house, 2)


@pytest.mark.slow
@pytest.mark.parametrize("while_it", ["waits", "calls"])
async def test_f65_an_operator_cancels_the_workflow(house: House, while_it: str):
    if while_it == "calls":
        await house.novu.configure(latency_ms=2000)
    else:
        await house.novu.add_fault("status", status=503, times=1, retry_after="2")
    await house.running(**QUICK)
    row = await house.notify()
    written = "select count(*) from dispatcher.recipient where notification_id = %s"
    await eventually(lambda: house.value(written, row), "a call")
    if while_it == "waits":
        await refused_once(house, row)
    client = await Client.connect(house.temporal_address)
    await client.get_workflow_handle(await workflow_of(house, row)).cancel()
    assert await house.final(row, within=40) == ["SENT"]
    history = await client.get_workflow_handle(await workflow_of(house, row)).fetch_history()
    assert history
    await effects_are_exactly(house, 1)


@pytest.mark.slow
@pytest.mark.parametrize("settled", [True, False], ids=["settled", "waiting"])
async def test_f65_an_operator_resets_the_workflow(house: House, *, settled: bool):
    if not settled:
        await house.novu.add_fault("status", status=503, times=1, retry_after="3")
    await house.running(**QUICK)
    row = await house.notify()
    workflow_id = await workflow_of(house, row)
    if settled:
        assert await house.final(row) == ["SENT"]
    else:
        await refused_once(house, row)

    async def scheduled() -> bool:
        return (await described(house, workflow_id)).history_length >= FIRST_TASK

    await eventually(scheduled, "the end of the first task")
    before = await described(house, workflow_id)
    client = await Client.connect(house.temporal_address)
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=before.run_id),
            reason="test",
            workflow_task_finish_event_id=FIRST_TASK,
            request_id="again",
        )
    )

    async def another_run() -> bool:
        after = await described(house, workflow_id)
        return after.run_id != before.run_id and after.status is not WorkflowExecutionStatus.RUNNING

    await eventually(another_run, "a second run that ended")
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 1)


@pytest.mark.slow
async def test_f66_a_build_that_fails_every_workflow_task(house: House):
    bad = await house.running(BAD_BUILD, **QUICK)
    rows = [await house.notify(), await house.notify()]
    workflow_id = await workflow_of(house, rows[0])

    async def failed() -> bool:
        return "NotificationDelivery" in bad.words()

    await eventually(failed, "a failed workflow task")
    first = await described(house, workflow_id)
    await house.running(**QUICK)
    assert await house.final(*rows, within=40) == ["SENT"] * 2
    assert (await described(house, workflow_id)).run_id == first.run_id
    await effects_are_exactly(house, 2)


async def test_f67_only_ids_reach_temporal(house: House):
    await house.running()
    small, large, too_large = [
        await house.notify(payload='{"text": "' + "x" * size + '"}') for size in (10, 500_000, 5_000_000)
    ]
    assert await house.final(small, large, too_large) == ["SENT", "SENT", "FAILED"]
    for row in (small, large, too_large):
        workflow_id = await workflow_of(house, row)

        async def closed(workflow_id: str = workflow_id) -> WorkflowExecutionDescription | None:
            found = await described(house, workflow_id)
            return None if found.status is WorkflowExecutionStatus.RUNNING else found

        found = await eventually(closed, "the end of the workflow")
        assert 0 < found.raw_description.workflow_execution_info.history_size_bytes <= 20_000


@pytest.mark.slow
async def test_f70_another_namespace_knows_none_of_the_workflows(house: House):
    await house.novu.configure(latency_ms=1500)
    first = await house.running(**QUICK)
    settled = await house.notify()
    assert await house.final(settled) == ["SENT"]
    row = await house.notify()
    on_the_wire = "select count(*) from dispatcher.recipient where state = 'sending'"
    await eventually(lambda: house.value(on_the_wire), "a call on the wire")
    first.kill()
    await house.novu.configure(latency_ms=0)
    await house.running(TEMPORAL_NAMESPACE=f"made-{house.queue}", **QUICK)
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 2)


@pytest.mark.slow
async def test_f72_rows_on_a_queue_that_nobody_serves_any_more(house: House):
    await house.novu.configure(latency_ms=1500)
    first = await house.running(TEMPORAL_TASK_QUEUE=f"{house.queue}-old", **QUICK)
    second = await house.running(**QUICK)
    rows: list[int] = []

    async def the_first_has_one() -> bool:
        rows.append(await house.notify())
        held = "select count(*) from dispatcher.delivery where lease_owner like %s and settled_at is null"
        return await house.value(held, f"%-{first.popen.pid}-%") > 0

    # Both work, each on its own queue, and race for each row; then one is gone for good.
    await eventually(the_first_has_one, "a row of the first")
    first.kill()
    assert await house.final(*rows, within=55) == ["SENT"] * len(rows)
    assert second.popen.poll() is None
    await effects_are_exactly(house, len(rows))


async def test_f73_no_workflow_is_kept_in_memory(house: House):
    await house.novu.add_fault("status", status=503, probability=0.3, seed=7, times=4)
    await house.running(TEMPORAL_MAX_CACHED_WORKFLOWS="0", **QUICK)
    rows = [await house.notify() for _ in range(5)]
    await house.burst(60)
    await house.all_sent(65)
    assert await house.final(*rows) == ["SENT"] * 5
    await effects_are_exactly(house, 65)


@pytest.mark.slow
async def test_f74_a_server_that_stands_still(house: House, tmp_path_factory: pytest.TempPathFactory):
    with temporal.running(tmp_path_factory.mktemp("temporal"), keep=True) as server:
        house.temporal_address = server.address
        process = await house.running(**QUICK)
        assert await house.final(await house.notify()) == ["SENT"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            rows = [await house.notify() for _ in range(3)]
            await house.burst(30)
            await told(process, "start_failed")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await house.all_sent(34)
        assert await house.final(*rows) == ["SENT"] * 3
        await effects_are_exactly(house, 34)
        process.kill()


async def told(process: Process, word: str) -> None:
    """Wait until the process has logged a word."""

    async def said() -> bool:
        return word in process.words()

    await eventually(said, f"the word {word}; log:\n{process.words()[-2000:]}")
