"""Tells an operator the step that Dispatcher takes next with a row, and when. Pure: everything comes from the row."""

from typing import TYPE_CHECKING, Literal

from dispatcher.cli.output import duration_text, seconds_between, time_text
from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_rows import RowDetails


FORGOTTEN = "the ledger has forgotten its recipients, because they are older than DISPATCHER_LEDGER_RETENTION"


def next_step(row: "RowDetails") -> str:
    """Return in one sentence the step that Dispatcher takes next with a row of `OperatorQueries.find_row`."""
    if row["refused"]:
        return (
            "nothing until the row is updated or the rule of the table is changed: the table refuses our write (see its"
            f" error); then dispatcher retry {row['id']}"
        )
    match row["status"]:
        case Status.PENDING:
            return pending(row)
        case Status.PROCESSING:
            return processing(row)
        case Status.SENT:
            return sent(row)
        case Status.RETRACTED:
            return retracted(row)
        case _:
            return failed(row)


def sent(row: "RowDetails") -> str:
    """Return that nothing follows, and whether a retraction could still cancel something."""
    if row["settled_at"] is None:
        return "nothing: it was not sent by us"
    forgotten = f"; {FORGOTTEN}, so a retraction would cancel nothing at Novu" if row["pruned"] else ""
    return f"nothing: Novu accepted it for every recipient{forgotten}"


def pending(row: "RowDetails") -> str:
    """Return the next step of a PENDING row, or the reason why it waits."""
    if row["publish_status"] != "PUBLISH":
        return f"nothing until it is published (publish_status is {row['publish_status']})"
    if row["deactivated"]:
        return "nothing while it is deactivated"
    if not row["due"]:
        return f"it becomes due {when(row, 'scheduled_for')}"
    if not row["nodes_alive"]:
        return "nothing: no dispatcher is running; start one with dispatcher run"
    return "it is due: a dispatcher claims it now, unless all are at capacity or none serves this enterprise"


def processing(row: "RowDetails") -> str:
    """Return the next step of a PROCESSING row: whose lease it is under, or how it is rescued."""
    if row["lease_until"] is None:
        return "it has no lease: the next sweep adopts it, and sends it again when the new lease has run out"
    if not row["held"]:
        return (
            f"its lease ran out at {time_text(row['lease_until'])} UTC: the next sweep asks Temporal whether its"
            " workflow still runs"
        )
    until = time_text(row["lease_until"])
    return f"{row['lease_owner']} is working on it; its lease runs until {until} UTC and is renewed"


def failed(row: "RowDetails") -> str:
    """Return the next step of a FAILED or PARTIAL row: its retry, or that it waits for a person."""
    if row["next_attempt_at"]:
        return f"it is retried {when(row, 'next_attempt_at')}, for recipients that Novu has not accepted"
    if row["dead_lettered_at"]:
        return (
            f"nothing: it is a dead letter since {time_text(row['dead_lettered_at'])} UTC;"
            f" dispatcher retry {row['id']} sends it again to all recipients"
        )
    return f"nothing; dispatcher retry {row['id']} sends it again to all recipients"


def retracted(row: "RowDetails") -> str:
    """Return the next step of a RETRACTED row: the cancellation of its triggers at Novu."""
    if not row["retraction_noticed"]:
        return "as soon as no run works on it, a dispatcher detects the retraction and cancels its triggers at Novu"
    if row["to_take_back"]:
        why = ": Novu has not run it yet" if row["not_run_yet"] else ""
        return f"triggers of {row['to_take_back']} recipients are still being cancelled at Novu{why}"
    if row["pruned"]:
        return f"nothing: {FORGOTTEN}, so nothing more can be cancelled at Novu"
    return "nothing: every trigger that can be cancelled at Novu is cancelled"


def when(row: "RowDetails", column: Literal["scheduled_for", "next_attempt_at"]) -> str:
    """Return the time in a column, and the duration until then. The column must not be None."""
    time = row[column] or ""
    left = seconds_between(row["now"], time)
    if left is None:
        return f"at {time_text(time)}"
    return f"at {time_text(time)} UTC, in {duration_text(left)}" if left > 0 else f"now (since {time_text(time)} UTC)"
