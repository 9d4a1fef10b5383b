"""`dispatcher demo`: the whole story on this machine alone, checked."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dispatcher.devstack.demo.report import Report
    from dispatcher.devstack.stack import Stack


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and the play to stderr.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    limit: Annotated[str, typer.Option("--timeout", help="How long the play may take.")] = "60s",
) -> None:
    """Play a small story of notifications on a stack of its own, in about ten seconds, and check how it came out.

    Exit code 1 when anything ended otherwise than it should. Touches nothing outside a temporary folder.
    """
    from functools import partial

    import anyio
    from rich.console import Console

    from dispatcher.devstack.demo.runner import demo as play
    from dispatcher.devstack.demo.screen import Screen
    from dispatcher.devstack.variables import lines

    words = Console(stderr=True)
    screen = Screen(words if as_json else Console(), words)

    def show(report: "Report", local: "Stack", dispatcher: int) -> None:
        screen.report(report)
        if as_json:
            typer.echo(json.dumps(document(report, local, dispatcher), indent=2))
        elif keep:
            typer.echo("\n".join(lines(local.variables)))

    if not anyio.run(partial(play, screen, seconds=duration(limit), keep=keep, show=show)):
        raise typer.Exit(1)


def document(report: "Report", local: "Stack", dispatcher: int) -> dict[str, object]:
    """Return everything the demo found, as JSON takes it."""
    from dataclasses import asdict

    return {
        "ok": not report.mismatches,
        **asdict(report),
        "variables": local.variables,
        "processes": {**local.pids, "dispatcher": dispatcher},
    }


def duration(text: str) -> float:
    """Return the seconds of --timeout."""
    from dispatcher.config.durations import parse_duration
    from dispatcher.models.errors import ConfigurationError

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise ConfigurationError(f"--timeout {error}") from None
