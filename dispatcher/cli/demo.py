"""`dispatcher demo`: plays a scenario on this machine alone, and checks its results."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import duration_from

if TYPE_CHECKING:
    from dispatcher.devstack.demo.report import Report
    from dispatcher.devstack.stack import Stack


def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; the scenario goes to stderr.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
    limit: Annotated[str, typer.Option("--timeout", help="How long the scenario may take.")] = "60s",
) -> None:
    """Send some notifications on a stack of its own, in about ten seconds, and check the results.

    Exit code 1 if a result is not as expected. Everything happens in a temporary folder.
    """
    from functools import partial

    import anyio
    from rich.console import Console

    from dispatcher.devstack.demo.runner import demo as run_demo
    from dispatcher.devstack.demo.screen import Screen
    from dispatcher.devstack.variables import lines

    seconds = duration_from(limit, "--timeout").total_seconds()
    messages = Console(stderr=True)
    screen = Screen(messages if as_json else Console(), messages)

    def show(report: "Report", local: "Stack", dispatcher: int) -> None:
        screen.report(report)
        if as_json:
            typer.echo(json.dumps(document(report, local, dispatcher), indent=2))
        elif keep:
            typer.echo("\n".join(lines(local.variables)))

    if not anyio.run(partial(run_demo, screen, seconds=seconds, keep=keep, show=show)):
        raise typer.Exit(1)


def document(report: "Report", local: "Stack", dispatcher: int) -> dict[str, object]:
    """Return the report with the variables and the pids, as --json prints it."""
    from dataclasses import asdict

    return {
        "ok": not report.mismatches,
        **asdict(report),
        "variables": local.variables,
        "processes": {**local.pids, "dispatcher": dispatcher},
    }
