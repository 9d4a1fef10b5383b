"""Faults of Temporal: the server is killed, loses data, throttles or is paused; workflows are ended or reset."""

import asyncio
import os
import signal
import sys

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.devstack import temporal
from tests.faults.waits import effects_are_exactly
from tests.support.stack import Process, Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
WITH_FAULT = (sys.executable, "-m", "tests.faults.run_with_fault")
WITHOUT_WORKER = (*WITH_FAULT, "without-worker")
FIRST_TASK = 4
"""The event with which a workflow's first task ends: it scheduled the activity, or waits for another try."""
BAD_BUILD = (*WITH_FAULT, "bad-build")


async def workflow_of(stack: Stack, row: int) -> str:
    """Return the id of a row's workflow, once it is claimed."""

    async def claimed() -> str | None:
        rows = await stack.rows("select workflow_id from dispatcher.delivery where notification_id = %s", row)
        return rows[0][0] if rows else None

    return await eventually(claimed, "a claim")


async def described(stack: Stack, workflow_id: str) -> WorkflowExecutionDescription:
    """Return what Temporal says about a workflow, once it knows it."""
    client = await Client.connect(stack.temporal_address)

    async def known() -> WorkflowExecutionDescription | None:
        try:
            return await client.get_workflow_handle(workflow_id).describe()
        except RPCError:
            return None

    return await eventually(known, f"the workflow {workflow_id}")


async def refused_once(stack: Stack, row: int) -> None:
    """Wait until the row's first call was refused and it waits for its retry."""
    refused = "select count(*) from dispatcher.recipient where notification_id = %s and state = 'unknown'"
    again = "select count(*) from dispatcher.recipient where notification_id = %s and outcome is not null"
    await eventually(lambda: stack.value(f"select ({refused}) + ({again}) > 0", row, row), "a first answer")


async def attempts(stack: Stack) -> int:
    """Return the highest number of runs that any row needed."""
    return await stack.value("select max(attempts) from dispatcher.delivery")


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False], ids=["file", "memory"])
async def test_f60_f61_killed_temporal_server_is_waited_for(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, *, keep: bool
):
    folder = tmp_path_factory.mktemp("temporal")
    await stack.novu.add_fault("status", status=503, nth=2, retry_after="3")
    with temporal.run_temporal(folder, keep=keep) as server:
        stack.temporal_address = server.address
        await stack.running(**QUICK)
        settled = await stack.notify()
        assert await stack.final(settled) == ["SENT"]
        waiting = await stack.notify()
        await refused_once(stack, waiting)
        workflow_id = await workflow_of(stack, waiting)
        assert (await described(stack, workflow_id)).status is WorkflowExecutionStatus.RUNNING
        os.kill(server.pid, signal.SIGKILL)
    with temporal.run_temporal(folder, keep=keep, port=server.port):
        client = await eventually(lambda: connected(server.address), "a server that is up again")
        if keep:
            assert await client.get_workflow_handle(workflow_id).describe()
        else:
            with pytest.raises(RPCError, match="not found"):
                await client.get_workflow_handle(await workflow_of(stack, settled)).describe()
        assert await stack.final(waiting, within=40) == ["SENT"]
        assert await stack.final(await stack.notify(), within=30) == ["SENT"]
        assert await attempts(stack) == (1 if keep else 2)
        await effects_are_exactly(stack, 3)
        stack.processes[0].kill()


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
async def test_f62_rate_limited_namespace_spends_no_attempt(stack: Stack, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("temporal")
    limits = {"frontend.namespaceRPS": 10, "frontend.namespaceBurstRatio": 1.0}
    with temporal.run_temporal(folder, settings=limits) as server:
        stack.temporal_address = server.address
        process = await stack.running(DISPATCHER_BATCH_SIZE="1", **QUICK)
        await stack.burst(30)
        assert await limited(server.address)
        await stack.all_sent(30)
        assert await attempts(stack) == 1
        assert process.read_log().count("\n") < 100
        await effects_are_exactly(stack, 30)
        process.kill()


@pytest.mark.slow
async def test_f64_workflow_without_a_worker_is_not_started_again(stack: Stack):
    await stack.running(WITHOUT_WORKER, **QUICK)
    rows = [await stack.notify(), await stack.notify()]
    workflow_id = await workflow_of(stack, rows[0])
    first = await described(stack, workflow_id)
    # The lease runs out more than once; nothing is started again.
    late = "select clock_timestamp() > created_at + interval '8 s' from notify.ent_notification where id = %s"
    await eventually(lambda: stack.value(late, rows[1]), "eight seconds")
    assert (await described(stack, workflow_id)).run_id == first.run_id
    await stack.running(**QUICK)
    assert await stack.final(*rows) == ["SENT"] * 2
    assert await attempts(stack) == 1
    await effects_are_exactly(stack, 2)


@pytest.mark.slow
@pytest.mark.parametrize("while_it", ["waits", "calls"])
async def test_f65_cancelled_workflow_is_rescued(stack: Stack, while_it: str):
    if while_it == "calls":
        await stack.novu.configure(latency_ms=2000)
    else:
        await stack.novu.add_fault("status", status=503, times=1, retry_after="2")
    await stack.running(**QUICK)
    row = await stack.notify()
    written = "select count(*) from dispatcher.recipient where notification_id = %s"
    await eventually(lambda: stack.value(written, row), "a call")
    if while_it == "waits":
        await refused_once(stack, row)
    client = await Client.connect(stack.temporal_address)
    await client.get_workflow_handle(await workflow_of(stack, row)).cancel()
    assert await stack.final(row, within=40) == ["SENT"]
    history = await client.get_workflow_handle(await workflow_of(stack, row)).fetch_history()
    assert history
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
@pytest.mark.parametrize("settled", [True, False], ids=["settled", "waiting"])
async def test_f65_reset_workflow_has_one_effect(stack: Stack, *, settled: bool):
    if not settled:
        await stack.novu.add_fault("status", status=503, times=1, retry_after="3")
    await stack.running(**QUICK)
    row = await stack.notify()
    workflow_id = await workflow_of(stack, row)
    if settled:
        assert await stack.final(row) == ["SENT"]
    else:
        await refused_once(stack, row)

    async def scheduled() -> bool:
        return (await described(stack, workflow_id)).history_length >= FIRST_TASK

    await eventually(scheduled, "the end of the first task")
    before = await described(stack, workflow_id)
    client = await Client.connect(stack.temporal_address)
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
        after = await described(stack, workflow_id)
        return after.run_id != before.run_id and after.status is not WorkflowExecutionStatus.RUNNING

    await eventually(another_run, "a second run that ended")
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 1)


@pytest.mark.slow
async def test_f66_failing_build_is_taken_over_by_a_good_one(stack: Stack):
    bad = await stack.running(BAD_BUILD, **QUICK)
    rows = [await stack.notify(), await stack.notify()]
    workflow_id = await workflow_of(stack, rows[0])

    async def failed() -> bool:
        return "NotificationDelivery" in bad.read_log()

    await eventually(failed, "a failed workflow task")
    first = await described(stack, workflow_id)
    await stack.running(**QUICK)
    assert await stack.final(*rows, within=150) == ["SENT"] * 2
    assert (await described(stack, workflow_id)).run_id == first.run_id
    await effects_are_exactly(stack, 2)


async def test_f67_only_ids_reach_temporal(stack: Stack):
    await stack.running()
    small, large, too_large = [
        await stack.notify(payload='{"text": "' + "x" * size + '"}') for size in (10, 500_000, 5_000_000)
    ]
    assert await stack.final(small, large, too_large) == ["SENT", "SENT", "FAILED"]
    for row in (small, large, too_large):
        workflow_id = await workflow_of(stack, row)

        async def closed(workflow_id: str = workflow_id) -> WorkflowExecutionDescription | None:
            found = await described(stack, workflow_id)
            return None if found.status is WorkflowExecutionStatus.RUNNING else found

        found = await eventually(closed, "the end of the workflow")
        assert 0 < found.raw_description.workflow_execution_info.history_size_bytes <= 20_000


@pytest.mark.slow
async def test_f70_another_namespace_repeats_nothing_settled(stack: Stack):
    await stack.novu.configure(latency_ms=1500)
    first = await stack.running(**QUICK)
    settled = await stack.notify()
    assert await stack.final(settled) == ["SENT"]
    row = await stack.notify()
    on_the_wire = "select count(*) from dispatcher.recipient where state = 'sending'"
    await eventually(lambda: stack.value(on_the_wire), "a call on the wire")
    first.kill()
    await stack.novu.configure(latency_ms=0)
    await stack.running(TEMPORAL_NAMESPACE=f"made-{stack.queue}", **QUICK)
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 2)


@pytest.mark.slow
async def test_f72_rows_on_an_unserved_queue_are_rescued(stack: Stack):
    await stack.novu.configure(latency_ms=1500)
    first = await stack.running(TEMPORAL_TASK_QUEUE=f"{stack.queue}-old", **QUICK)
    second = await stack.running(**QUICK)
    rows: list[int] = []

    async def the_first_has_one() -> bool:
        rows.append(await stack.notify())
        held = "select count(*) from dispatcher.delivery where lease_owner like %s and settled_at is null"
        return await stack.value(held, f"%-{first.popen.pid}-%") > 0

    # Both work, each on its own queue, and race for each row; then one is gone for good.
    await eventually(the_first_has_one, "a row of the first")
    first.kill()
    assert await stack.final(*rows, within=55) == ["SENT"] * len(rows)
    assert second.popen.poll() is None
    await effects_are_exactly(stack, len(rows))


async def test_f73_workflows_work_without_a_cache(stack: Stack):
    await stack.novu.add_fault("status", status=503, probability=0.3, seed=7, times=4)
    await stack.running(TEMPORAL_MAX_CACHED_WORKFLOWS="0", **QUICK)
    rows = [await stack.notify() for _ in range(5)]
    await stack.burst(60)
    await stack.all_sent(65)
    assert await stack.final(*rows) == ["SENT"] * 5
    await effects_are_exactly(stack, 65)


@pytest.mark.slow
async def test_f74_paused_temporal_server_has_no_second_effect(stack: Stack, tmp_path_factory: pytest.TempPathFactory):
    with temporal.run_temporal(tmp_path_factory.mktemp("temporal"), keep=True) as server:
        stack.temporal_address = server.address
        process = await stack.running(**QUICK)
        assert await stack.final(await stack.notify()) == ["SENT"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            rows = [await stack.notify() for _ in range(3)]
            await stack.burst(30)
            await log_has(process, "start_failed")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await stack.all_sent(34)
        assert await stack.final(*rows) == ["SENT"] * 3
        await effects_are_exactly(stack, 34)
        process.kill()


async def log_has(process: Process, word: str) -> None:
    """Wait until the process has logged a word."""

    async def said() -> bool:
        return word in process.read_log()

    await eventually(said, f"the word {word}; log:\n{process.read_log()[-2000:]}")
