"""`dispatcher dev`: everything a dispatcher needs, on this machine, without Docker."""

import json
from pathlib import Path
from typing import Annotated

import typer


def dev(
    data: Annotated[Path, typer.Option("--data", help="Where the data stays between starts.")] = Path(".dispatcher"),
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Also write the variables here; replaces only what it wrote itself."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Also run the dispatcher itself.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the variables as one JSON object.")] = False,
) -> None:
    """Run PostgreSQL with the outbox, Temporal and a Novu stand-in here, until Ctrl-C or SIGTERM (exit code 0).

    Prints the variables that connect to them, and nothing else, to stdout once all of them answer.
    """
    from functools import partial

    import anyio

    from dispatcher.devstack.dev import dev as run_stack
    from dispatcher.devstack.stack import Stack
    from dispatcher.devstack.variables import lines

    def show(local: Stack) -> None:
        typer.echo(json.dumps(local.variables) if as_json else "\n".join(lines(local.variables)))
        if local.temporal.ui_port:
            say(f"Temporal's page: http://127.0.0.1:{local.temporal.ui_port}")

    anyio.run(partial(run_stack, data, env_file=env_file, dispatcher=run, say=say, show=show))


def say(words: str) -> None:
    """Say something to the person at the terminal."""
    typer.echo(words, err=True)
