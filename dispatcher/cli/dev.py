"""`dispatcher dev`: the services that a dispatcher needs, on this machine, without Docker."""

import json
from pathlib import Path
from typing import Annotated

import typer


def dev(
    data: Annotated[Path, typer.Option("--data", help="The folder that keeps the data between starts.")] = Path(
        ".dispatcher"
    ),
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file", help="Also write the variables into this file. Only lines that dev wrote are replaced."
        ),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Also run the dispatcher.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the variables as one JSON object.")] = False,
) -> None:
    """Run PostgreSQL with the outbox, Temporal and a fake Novu until Ctrl-C or SIGTERM, which is exit code 0.

    As soon as all of them answer, prints to stdout the variables that connect to them, and nothing else.
    """
    from functools import partial

    import anyio

    from dispatcher.cli.output import say
    from dispatcher.devstack.dev import dev as run_stack
    from dispatcher.devstack.stack import Stack
    from dispatcher.devstack.variables import lines

    def show(local: Stack) -> None:
        typer.echo(json.dumps(local.variables) if as_json else "\n".join(lines(local.variables)))
        if local.temporal.ui_port:
            say(f"Temporal's web page: http://127.0.0.1:{local.temporal.ui_port}")

    anyio.run(partial(run_stack, data, env_file=env_file, dispatcher=run, say=say, show=show))
