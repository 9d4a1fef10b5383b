"""`dispatcher status`: the state of the outbox and of all dispatchers, read from the database alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dispatcher.cli.filter_options import AsJson
from dispatcher.cli.options import Outbox, Url
from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.operator_rows import InstallationHealth, NodeRow, StatusCounts

    class StatusReport(InstallationHealth, StatusCounts):
        """Everything that the command shows; --json prints it as it is."""


TRIGGERS = ("dispatcher_insert", "dispatcher_update")
TRIGGER_TEXTS = {True: "installed", False: "DISABLED", None: "MISSING"}


def status(database_url: Url = None, outbox: Outbox = None, as_json: AsJson = False) -> None:
    """Show rows by status, due rows and the age of the oldest, the running dispatchers, and the triggers."""
    import anyio

    from dispatcher.cli.output import print_json, print_pairs, say

    async def read() -> "StatusReport":
        from dispatcher.cli.operator_session import open_operator

        async with open_operator(database_url, outbox) as operator:
            return {**await operator.read_health(), **await operator.count_by_status()}

    report = anyio.run(read)
    if as_json:
        print_json(report)
        return
    print_pairs([*row_lines(report), *installation_lines(report)])
    for warning in warnings(report):
        say(warning)


def row_lines(report: "StatusReport") -> Iterator[tuple[str, Any]]:
    """Yield the lines about rows: a name and its value."""
    from dispatcher.cli.output import duration_text, seconds_between, time_text

    counts, exact = report["counts"], report["counts_exact"]
    for name in (*Status, *(counts.keys() - set(Status))):
        yield name, f"{'' if exact else 'about '}{counts.get(name, 0)}"
    due, oldest = f"{report['due']}{'' if exact else ' or more'}", report["oldest_due_seconds"]
    yield "due now", due if oldest is None else f"{due}, the oldest for {duration_text(max(0, oldest))}"
    yield "scheduled for later", report["scheduled"]
    yield "retries waiting", report["retries_waiting"]
    if report["next_due"]:
        left = seconds_between(report["now"], report["next_due"])
        in_time = f", in {duration_text(max(0, left))}" if left else ""
        yield "next due", f"{time_text(report['next_due'])} UTC{in_time}"


def installation_lines(report: "StatusReport") -> Iterator[tuple[str, Any]]:
    """Yield the lines about triggers and nodes: a name and its value."""
    for trigger in TRIGGERS:
        yield trigger, TRIGGER_TEXTS[report["triggers"].get(trigger)]
    for node in report["nodes"]:
        yield "node", node_text(node, report["now"])


def node_text(node: "NodeRow", now: str) -> str:
    """Return the state of a node in one line. `now`: the database's time, as in the report."""
    from dispatcher.cli.output import duration_text, seconds_between

    def age(time: str) -> str:
        return duration_text(max(0, seconds_between(time, now) or 0))

    gone = "" if node["alive"] else f"GONE, last seen {age(node['seen_at'])} ago; "
    swept = f"{node['mode']}, swept {age(node['last_sweep_at'] or node['seen_at'])} ago, "
    sweeps = "" if node["role"] == "worker" else swept
    return f"{node['id']} ({node['role']}, {node['version']}): {gone}{sweeps}{node['in_flight']} in work"


def warnings(report: "StatusReport") -> Iterator[str]:
    """Yield a sentence with its remedy for each part that is missing."""
    if not any(node["alive"] for node in report["nodes"]):
        yield "no dispatcher is running: start one with dispatcher run"
    if report["refused"]:
        yield (
            f"the table refuses our write to {report['refused']} rows: dispatcher list --dead-letters shows them;"
            " correct the row or the rule, then dispatcher retry ID"
        )
    if not all(report["triggers"].get(name) for name in TRIGGERS):
        yield "without both triggers, commits send no NOTIFY, and rows wait for the sweep: run dispatcher db upgrade"
