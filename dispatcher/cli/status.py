"""`dispatcher status`: how it stands, from the database alone."""

from typing import TYPE_CHECKING

from dispatcher.cli.options import Outbox, Url
from dispatcher.cli.row_filters import STATUSES, AsJson

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import Row

TRIGGERS = ("dispatcher_insert", "dispatcher_update")


def status(database_url: Url = None, outbox: Outbox = None, as_json: AsJson = False) -> None:
    """Show how it stands: rows by status, what is due and since when, who is running, whether triggers are there."""
    import anyio

    async def run() -> "Row":
        from dispatcher.cli.operator_session import open_operator

        async with open_operator(database_url, outbox) as desk:
            return {**await desk.read_health(), **await desk.count_by_status()}

    found = anyio.run(run)
    if as_json:
        from dispatcher.cli.output import print_json

        print_json(found)
    else:
        print_status(found)


def print_status(found: "Row") -> None:
    """Print the state for people."""
    from dispatcher.cli.output import duration, print_pairs, say, seconds_between, time_text

    counts = found["counts"]
    about = "" if found["counts_exact"] else "about "
    print_pairs((name, f"{about}{counts.get(name, 0)}") for name in [*STATUSES, *(counts.keys() - set(STATUSES))])
    waiting = found["oldest_due_seconds"]
    due = f"{found['due']}{'' if found['counts_exact'] else ' or more'}"
    print_pairs([("due now", f"{due}, the oldest for {duration(max(0, waiting))}" if waiting is not None else due)])
    print_pairs([("scheduled for later", found["scheduled"]), ("retries waiting", found["retries_waiting"])])
    if found["next_due"]:
        left = seconds_between(found["now"], found["next_due"])
        print_pairs(
            [("next due", f"{time_text(found['next_due'])} UTC" + (f", in {duration(max(0, left))}" if left else ""))]
        )
    print_pairs([(TRIGGERS[0], trigger_state(found, TRIGGERS[0])), (TRIGGERS[1], trigger_state(found, TRIGGERS[1]))])
    for node in found["nodes"]:
        seen, swept = (
            seconds_between(node[name] or node["seen_at"], found["now"]) or 0 for name in ("seen_at", "last_sweep_at")
        )
        looks = f"{node['mode']}, swept {duration(max(0, swept))} ago, " if node["role"] != "worker" else ""
        state = f"{looks}{node['in_flight']} in work"
        gone = "" if node["alive"] else f"GONE, last seen {duration(max(0, seen))} ago; "
        print_pairs([("node", f"{node['id']} ({node['role']}, {node['version']}): {gone}{state}")])
    if not any(node["alive"] for node in found["nodes"]):
        say("no dispatcher is running: start one with dispatcher run")
    if not all(found["triggers"].get(name) for name in TRIGGERS):
        say("without both triggers commits wake nobody, and rows wait for the sweep: run dispatcher db upgrade")


def trigger_state(found: "Row", trigger: str) -> str:
    """Say whether a trigger is there and fires."""
    return {True: "installed", False: "DISABLED", None: "MISSING"}[found["triggers"].get(trigger)]
