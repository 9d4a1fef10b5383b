"""What happens next to a row, and when, in a sentence. Pure: all it knows is the row."""

from typing import TYPE_CHECKING

from dispatcher.cli.output import duration, seconds_between, time_text

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import Row


def next_step(row: "Row") -> str:
    """Return what happens next to the row that `Operations.show` returned."""
    match row["status"]:
        case "PENDING":
            return pending(row)
        case "PROCESSING":
            return processing(row)
        case "SENT":
            return (
                "nothing: Novu took it for every recipient" if row["settled_at"] else "nothing: it was not sent by us"
            )
        case "RETRACTED":
            return retracted(row)
        case _:
            return failed(row)


def pending(row: "Row") -> str:
    if row["publish_status"] != "PUBLISH":
        return f"nothing until it is published (publish_status is {row['publish_status']})"
    if row["deactivated"]:
        return "nothing while it is deactivated"
    if not row["due"]:
        return f"it becomes due {when(row, 'scheduled_for')}"
    if not row["nodes_alive"]:
        return "nothing: no dispatcher is running; start one with dispatcher run"
    return "it is due: a dispatcher takes it now, unless it has no room or none serves this enterprise"


def processing(row: "Row") -> str:
    if row["lease_until"] is None:
        return "nobody holds it: the next sweep takes it over, and sends it again when its lease has run out"
    if not row["held"]:
        return (
            f"its lease ran out at {time_text(row['lease_until'])}: the next sweep asks Temporal whether its run lives"
        )
    return f"{row['lease_owner']} works on it, until {time_text(row['lease_until'])} at first"


def failed(row: "Row") -> str:
    if row["next_attempt_at"]:
        return f"it is tried again {when(row, 'next_attempt_at')}, for recipients who do not have it yet"
    if row["dead_lettered_at"]:
        return (
            f"nothing: a dead letter since {time_text(row['dead_lettered_at'])};"
            f" dispatcher retry {row['id']} sends it again to all recipients"
        )
    return f"nothing; dispatcher retry {row['id']} sends it again to all recipients"


def retracted(row: "Row") -> str:
    if not row["retraction_noticed"]:
        return "a dispatcher notices the retraction, once no run holds the row, and takes back what Novu accepted"
    if row["to_take_back"]:
        return f"{row['to_take_back']} recipients are still being taken back at Novu"
    return "nothing: what could be taken back at Novu was"


def when(row: "Row", column: str) -> str:
    """Return a coming time, and how long it is until then."""
    left = seconds_between(row["now"], row[column])
    if left is None:
        return f"at {time_text(row[column])}"
    return (
        f"at {time_text(row[column])} UTC, in {duration(left)}"
        if left > 0
        else f"now (since {time_text(row[column])} UTC)"
    )
