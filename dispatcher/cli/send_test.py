"""`dispatcher send-test`: one notification all the way, from the commit to Novu's answer, and where the time went."""

import time
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from dispatcher.cli.options import Outbox, Url, duration
from dispatcher.cli.row_filters import AsJson

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import OperatorQueries, Row, TrialNotification

RECIPIENT = UUID("d15fa7c4-0000-4000-8000-000000000001")
"""Always the same, so that Novu gets one subscriber by our tests and not one each."""
PAYLOAD = (
    '{"title": "Test of the notifications", "subject": "Test of the notifications",'
    ' "message": "Sent by dispatcher send-test. Nothing needs to be done."}'
)
PROGRESS_POLL_SECONDS = 0.05
HOPS = {"claimed": "commit -> claimed", "called": "claimed -> Novu called", "settled": "called -> outcome written"}


def send_test(  # noqa: PLR0917  (Typer's)
    workflow: Annotated[str, typer.Option("--workflow", help="The Novu workflow's key.")] = "default-in-app",
    recipient: Annotated[UUID, typer.Option("--recipient", help="Who gets it: a subscriber of Novu.")] = RECIPIENT,
    enterprise: Annotated[
        str | None, typer.Option("--enterprise", help="Whose it is; else the workflow's.", show_default=False)
    ] = None,
    payload: Annotated[str, typer.Option("--payload", help="JSON for the workflow.", show_default=False)] = PAYLOAD,
    limit: Annotated[str, typer.Option("--timeout", help="How long it may take.")] = "30s",
    cleanup: Annotated[bool, typer.Option("--cleanup", help="Delete the row afterwards; needs that right.")] = False,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Send one notification and follow it until Novu has taken it; say how long each part of the way took.

    Exit code 1 when it does not arrive in time, with the place where it stopped.
    """
    import anyio

    seconds = duration(limit, "--timeout").total_seconds()

    async def run() -> tuple["TrialNotification", "Row", str | None]:
        from dispatcher.cli.operator_session import open_operator

        async with open_operator(database_url, outbox) as desk:
            trial = await insert(desk, workflow, recipient, enterprise, payload)
            removed = None
            try:
                row = await wait_final(desk, trial, seconds)
            finally:
                with anyio.CancelScope(shield=True):
                    removed = await clean_up(desk, trial) if cleanup else None
        return trial, row, removed

    trial, row, removed = anyio.run(run)
    print_result(trial, row, removed, as_json=as_json)
    if row["status"] != "SENT":
        raise typer.Exit(1)


async def insert(
    desk: "OperatorQueries", key: str, recipient: UUID, enterprise: str | None, payload: str
) -> "TrialNotification":
    """Write the notification."""
    from dispatcher.models.errors import ConfigurationError

    trial = await desk.insert_test(key, recipient, enterprise, payload)
    if trial is None:
        known = ", ".join(await desk.workflow_keys()) or "none"
        raise ConfigurationError(f"no published Novu workflow has the key {key}: give --workflow one of {known}")
    return trial


async def wait_final(desk: "OperatorQueries", trial: "TrialNotification", seconds: float) -> "Row":
    """Return the row as it is when it has an outcome, or when its time is over."""
    import anyio

    deadline = time.monotonic() + seconds
    while True:
        row = await desk.test_progress(trial)
        if row is None:
            return {"status": "deleted", "nodes_alive": None}
        if row["status"] not in ("PENDING", "PROCESSING") or time.monotonic() >= deadline:
            return row
        await anyio.sleep(PROGRESS_POLL_SECONDS)


async def clean_up(desk: "OperatorQueries", trial: "TrialNotification") -> str:
    """Delete the notification, or keep it from being sent where it has not ended."""
    from dispatcher.postgres.operator_queries import RowFilter

    if await desk.remove_test(trial):
        return "deleted"
    seen = await desk.preview(RowFilter(ids=(trial.id,)))
    return "retracted" if await desk.retract(seen, "dispatcher send-test is over") else "left"


def print_result(trial: "TrialNotification", row: "Row", removed: str | None, *, as_json: bool) -> None:
    """Print the way of the notification, and where it ended."""
    from dispatcher.cli.output import print_json, print_pairs, say

    hops, before = {}, 0.0
    for name in HOPS:
        if (at := row.get(name)) is not None:
            hops[name], before = round(max(0.0, at - before) * 1000, 1), at
    total = None if row.get("settled") is None else round(row["settled"] * 1000, 1)
    stopped = None if row["status"] == "SENT" else where_it_stopped(row)
    if as_json:
        body = {"id": trial.id, "enterprise": trial.enterprise, "status": row["status"], "hops_ms": hops}
        print_json(
            {
                **body,
                "total_ms": total,
                "stopped": stopped,
                "temporal_workflow_id": row.get("workflow_id"),
                "row": removed,
            }
        )
    else:
        print_pairs(
            [("notification", trial.id), ("status", row["status"]), ("Temporal workflow", row.get("workflow_id"))]
        )
        print_pairs(
            [
                *((HOPS[name], f"{took} ms") for name, took in hops.items()),
                ("in all", total and f"{total} ms"),
                ("the row", removed),
            ]
        )
    if stopped:
        say(f"it did not arrive: {stopped}")
    if removed == "left" or (removed is None and row["status"] in ("PENDING", "PROCESSING")):
        say(f"the row stays, and may still be sent: dispatcher retract {trial.id}")


def where_it_stopped(row: "Row") -> str:
    """Say where the notification stopped, and what to look at."""
    if row["status"] == "deleted":
        return "somebody deleted the row"
    if row["status"] == "PENDING" and not row["nodes_alive"]:
        return "nobody claimed it, because no dispatcher is running: start one with dispatcher run"
    if row["status"] == "PENDING":
        return (
            f"none of {row['nodes_alive']} running dispatchers claimed it: see their logs for Temporal or Novu being"
            " away (temporal_unreachable, novu_gate_shut), and whether one serves this enterprise"
        )
    if row["status"] == "PROCESSING" and row["called"] is None:
        return (
            f"{row['lease_owner']} claimed it, but Novu was not called: does Temporal answer, and does a worker poll"
            " its task queue?"
        )
    if row["status"] == "PROCESSING":
        return "Novu was called, and its answer is still outstanding"
    again = f"; it is tried again at {row['next_attempt_at']}" if row["next_attempt_at"] else ""
    return f"it ended as {row['status']}: {row['error'] or 'no reason is noted'}{again}"
