"""Histories that an earlier build wrote, replayed with this one."""

import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from dispatcher.delivery.workflows import NotificationDelivery

HISTORIES = Path(__file__).with_name("histories")


def recorded(name: str) -> dict[str, Any]:
    return json.loads((HISTORIES / f"{name}.json").read_text())


async def replay(history: dict[str, Any]) -> None:
    """Replay on a queue of the same kind: the replayer names it after the build."""
    queue = history["events"][0]["workflowExecutionStartedEventAttributes"]["taskQueue"]["name"]
    replayer = Replayer(
        workflows=[NotificationDelivery], workflow_runner=UnsandboxedWorkflowRunner(), build_id=str(queue)
    )
    await replayer.replay_workflow(WorkflowHistory.from_json("recorded", history))


@pytest.mark.parametrize("name", ["solo", "batch", "retried", "given-up"])
async def test_f52_workflows_of_an_earlier_build_continue(name: str):
    """Runs may be open while a new version starts, so it has to take the same steps for the same history.

    A change of steps in `workflows.py` (another activity, another order, one timer more) makes this red. Then either
    the old steps stay behind `workflow.patched("what-changed")`, with these files kept and new ones recorded beside
    them, or, while nobody runs the old version, all are recorded again: `python -m tests.e2e.record_histories`.
    """
    await replay(recorded(name))


async def test_f52_changed_steps_are_detected():
    history = recorded("batch")
    [scheduled] = [event for event in history["events"] if "activityTaskScheduledEventAttributes" in event]
    scheduled["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "something-else"
    with pytest.raises(NondeterminismError):
        await replay(history)
