"""`dispatcher send-test`: send one notification, and measure each part of its path from the commit to Novu's answer."""

import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from dispatcher.cli.filter_options import AsJson
from dispatcher.cli.options import Outbox, Url, duration_from
from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import OperatorQueries
    from dispatcher.postgres.operator_rows import TrialNotification, TrialProgress

RECIPIENT = UUID("d15fa7c4-0000-4000-8000-000000000001")
"""The recipient of every test, so that all our tests together make one subscriber at Novu."""
PAYLOAD = (
    '{"title": "Test of the notifications", "subject": "Test of the notifications",'
    ' "message": "Sent by dispatcher send-test. Nothing needs to be done."}'
)
PROGRESS_POLL_SECONDS = 0.05
HOPS = {"claimed": "commit -> claimed", "called": "claimed -> Novu called", "settled": "called -> outcome written"}
"""The parts of the path, each by the key of `TrialProgress` at its end."""
DELETED = "deleted"
"""The status that the report gives a row that somebody deleted."""


def send_test(  # noqa: PLR0917  (Typer's)
    workflow: Annotated[str, typer.Option("--workflow", help="The Novu workflow's key.")] = "default-in-app",
    recipient: Annotated[UUID, typer.Option("--recipient", help="The recipient: a Novu subscriber's id.")] = RECIPIENT,
    enterprise: Annotated[
        str | None,
        typer.Option(
            "--enterprise", help="The notification's enterprise; default: the workflow's.", show_default=False
        ),
    ] = None,
    payload: Annotated[str, typer.Option("--payload", help="JSON for the workflow.", show_default=False)] = PAYLOAD,
    limit: Annotated[str, typer.Option("--timeout", help="How long to wait for the outcome.")] = "30s",
    cleanup: Annotated[
        bool, typer.Option("--cleanup", help="Delete the row afterwards. This needs the right to delete rows.")
    ] = False,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Send one notification, wait until Novu has accepted it, and show how long each part of its path took.

    Exit code 1 if it is not sent in time; the output then names the part where it stopped.
    """
    import anyio

    seconds = duration_from(limit, "--timeout").total_seconds()

    async def run() -> dict[str, Any]:
        from dispatcher.cli.operator_session import open_operator

        async with open_operator(database_url, outbox) as operator:
            trial = await insert(operator, workflow, recipient, enterprise, payload)
            return await follow(operator, trial, seconds, cleanup=cleanup)

    result = anyio.run(run)
    print_result(result, as_json=as_json)
    if result["status"] != Status.SENT:
        raise typer.Exit(1)


async def insert(
    operator: "OperatorQueries", key: str, recipient: UUID, enterprise: str | None, payload: str
) -> "TrialNotification":
    """Write the notification. Raises ConfigurationError if no published Novu workflow has the key."""
    from dispatcher.models.errors import ConfigurationError

    trial = await operator.insert_test(key, recipient, enterprise, payload)
    if trial is None:
        known = ", ".join(await operator.workflow_keys()) or "none"
        raise ConfigurationError(f"no published Novu workflow has the key {key}: give --workflow one of {known}")
    return trial


async def follow(
    operator: "OperatorQueries", trial: "TrialNotification", seconds: float, *, cleanup: bool
) -> dict[str, Any]:
    """Wait for the end of the notification for at most `seconds`, and return the result as --json prints it."""
    import anyio

    removed = None
    try:
        progress = await wait_final(operator, trial, seconds)
    finally:
        with anyio.CancelScope(shield=True):
            removed = await clean_up(operator, trial) if cleanup else None
    return result_document(trial, progress, removed)


async def wait_final(operator: "OperatorQueries", trial: "TrialNotification", seconds: float) -> "TrialProgress | None":
    """Return the row's progress as soon as it has ended, or after `seconds`; None if its row was deleted."""
    import anyio

    deadline = time.monotonic() + seconds
    while True:
        progress = await operator.test_progress(trial)
        if progress is None:
            return None
        if progress["status"] not in (Status.PENDING, Status.PROCESSING) or time.monotonic() >= deadline:
            return progress
        await anyio.sleep(PROGRESS_POLL_SECONDS)


async def clean_up(operator: "OperatorQueries", trial: "TrialNotification") -> str:
    """Delete the row; if it has not ended, retract it. Return `deleted`, `retracted`, or `left` if neither worked."""
    from dispatcher.postgres.row_filter import RowFilter

    if await operator.remove_test(trial):
        return "deleted"
    preview = await operator.preview(RowFilter(ids=(trial.id,)))
    return "retracted" if await operator.retract(preview, "dispatcher send-test is over") else "left"


def result_document(
    trial: "TrialNotification", progress: "TrialProgress | None", removed: str | None
) -> dict[str, Any]:
    """Return the result as --json prints it; times are milliseconds. `removed`: the result of `clean_up`."""
    settled = None if progress is None else progress["settled"]
    return {
        "id": trial.id,
        "enterprise": trial.enterprise,
        "status": DELETED if progress is None else progress["status"],
        "hops_ms": {} if progress is None else hops(progress),
        "total_ms": None if settled is None else round(settled * 1000, 1),
        "stopped": where_it_stopped(progress),
        "temporal_workflow_id": None if progress is None else progress["workflow_id"],
        "row": removed,
    }


def print_result(result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result to stdout, and the sentences that follow it to stderr."""
    from dispatcher.cli.output import print_json, print_pairs, say

    if as_json:
        print_json(result)
    else:
        print_pairs(result_lines(result))
    for message in messages(result):
        say(message)


def hops(progress: "TrialProgress") -> dict[str, float]:
    """Return the milliseconds that each part of the path took, for the parts that have ended."""
    found: dict[str, float] = {}
    before = 0.0
    ends = {"claimed": progress["claimed"], "called": progress["called"], "settled": progress["settled"]}
    for name, at in ends.items():
        if at is not None:
            found[name], before = round(max(0.0, at - before) * 1000, 1), at
    return found


def result_lines(result: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the result as lines: a name and its value."""
    total = result["total_ms"]
    return [
        ("notification", result["id"]),
        ("status", result["status"]),
        ("Temporal workflow", result["temporal_workflow_id"]),
        *((HOPS[name], f"{milliseconds} ms") for name, milliseconds in result["hops_ms"].items()),
        ("in all", total and f"{total} ms"),
        ("the row", result["row"]),
    ]


def messages(result: dict[str, Any]) -> list[str]:
    """Return the sentences that follow the result."""
    found = [f"it was not sent: {result['stopped']}"] if result["stopped"] else []
    open_row = result["row"] is None and result["status"] in (Status.PENDING, Status.PROCESSING)
    if result["row"] == "left" or open_row:
        found.append(f"the row stays, and may still be sent: dispatcher retract {result['id']}")
    return found


def where_it_stopped(progress: "TrialProgress | None") -> str | None:
    """Return the part of the path where the notification stopped, with the next thing to check; None if it was sent."""
    if progress is None:
        return "somebody deleted the row"
    return None if progress["status"] == Status.SENT else open_part(progress)


def open_part(progress: "TrialProgress") -> str:
    """Return the part of the path where a row stands that was not sent."""
    match progress["status"]:
        case Status.PENDING if not progress["nodes_alive"]:
            return "no dispatcher is running that could claim it: start one with dispatcher run"
        case Status.PENDING:
            return (
                f"none of {progress['nodes_alive']} running dispatchers claimed it: look in their logs for an outage of"
                " Temporal (outage_began with part=temporal) or of Novu (novu_gate_shut), and check that one of them"
                " serves this enterprise"
            )
        case Status.PROCESSING if progress["called"] is None:
            return (
                f"{progress['lease_owner']} claimed it, but Novu was not called: check that Temporal answers and that a"
                " worker polls its task queue"
            )
        case Status.PROCESSING:
            return "Novu was called, and has not answered yet"
        case ended:
            again = f"; it is retried at {progress['next_attempt_at']}" if progress["next_attempt_at"] else ""
            return f"it ended as {ended}: {progress['error'] or 'no reason is recorded'}{again}"
