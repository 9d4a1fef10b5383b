"""Measures what a row of a burst costs: processor time of each process, and actions that Temporal Cloud would bill.

Temporal bills a start, each activity and each of its retries, each timer, and the markers of local activities once for
each workflow task. Heartbeats of activities are not in the histories, so they are not counted.
"""

from collections.abc import Sequence
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from bench.block import Block, block
from bench.burst import burst, warmed_up
from bench.contestants import Contestant
from bench.figures import Value, Values
from bench.idle import TICKS, processor_seconds
from bench.stack import Stack

PROCESSES, ALL = ("dispatcher", "Temporal", "PostgreSQL"), "all three"
ACTIONS = "Temporal actions"
BILLED_EVENTS = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_TIMER_STARTED,
)


def figure(process: str) -> str:
    """Return the name of the figure of one process."""
    return f"processor, {process}"


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> Values:
    """Return milliseconds of processor time and Temporal's actions per row."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        earlier = await workflows(running)
        before = used(stack, running)
        await burst(running, rows)
        spent = {name: 1000 * (seconds - before[name]) / rows for name, seconds in used(stack, running).items()}
        actions = await billed_actions(stack, await workflows(running) - earlier)
    spent[ALL] = sum(spent.values())
    values = {figure(name): Value(amount, "ms/row") for name, amount in spent.items()}
    return {**values, ACTIONS: Value(actions / rows, "actions/row")}


def used(stack: Stack, running: Block) -> dict[str, float]:
    """Return the processor seconds of each process so far; PostgreSQL's without the session that measures."""
    server = server_seconds(stack.database.pid) - processor_seconds(running.connection.info.backend_pid)
    seconds = (processor_seconds(running.process.pid), processor_seconds(stack.temporal.pid), server)
    return dict(zip(PROCESSES, seconds, strict=True))


def server_seconds(postmaster: int) -> float:
    """Return the processor seconds of a PostgreSQL server: of its processes now, and of those that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has just ended
        if path.parent.name == str(postmaster):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(postmaster):
            ticks += sum(map(int, fields[11:13]))
    return ticks / TICKS


async def workflows(running: Block) -> set[str]:
    """Return the ids of all workflows so far."""
    cursor = await running.connection.execute("select distinct workflow_id from dispatcher.delivery")
    return {row[0] for row in await cursor.fetchall()}


async def billed_actions(stack: Stack, ids: set[str]) -> int:
    """Return the actions of these workflows."""
    client = await Client.connect(stack.temporal.address)
    actions = 0
    for workflow_id in ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        actions += actions_of(history.events)
    return actions


def actions_of(events: Sequence[HistoryEvent]) -> int:
    """Return the actions of one history."""
    marked_tasks = {
        event.marker_recorded_event_attributes.workflow_task_completed_event_id
        for event in events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    }
    retries = sum(
        event.activity_task_started_event_attributes.attempt - 1
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    )
    return sum(event.event_type in BILLED_EVENTS for event in events) + len(marked_tasks) + retries
