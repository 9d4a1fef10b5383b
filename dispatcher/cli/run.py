"""`dispatcher run`: the process that a platform keeps alive."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dispatcher.cli.options import EnvFile

RunRole = Annotated[
    Literal["all", "dispatch", "worker"],
    typer.Option("--role", help="dispatch: only claim and start. worker: only send. Both kinds have to run then."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Send and write nothing: log what would be sent, and how soon it was seen.")
]


def run(env_file: EnvFile = Path(".env"), role: RunRole = "all", dry_run: DryRun = False) -> None:
    """Watch the outbox and deliver: listener, sweep, dispatch and Temporal worker in one process.

    Logs to stdout. SIGTERM or Ctrl-C stops it: nothing new is taken, what runs is finished or handed back.
    """
    import sys

    import anyio

    from dispatcher.app import dry_run as shadow
    from dispatcher.app import run as app
    from dispatcher.config.loading import load
    from dispatcher.telemetry import logs

    settings = load(env_file)
    logs.configure(settings.log_format, settings.log_level, stream=sys.stdout)
    if dry_run:
        anyio.run(shadow.run, settings)
    else:
        anyio.run(app.run, settings, role)
