"""`dispatcher run`: the long-running process that claims and sends notifications."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dispatcher.cli.options import EnvFile, load_settings

RunRole = Annotated[
    Literal["all", "dispatch", "worker"],
    typer.Option(
        "--role",
        help="dispatch: only claim rows and start workflows. worker: only send. You then need processes of both roles.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Send and write nothing. Log each row that would be sent, and how soon it was found."
    ),
]


def run(env_file: EnvFile = Path(".env"), role: RunRole = "all", dry_run: DryRun = False) -> None:
    """Send the outbox's notifications: listener, sweep, claim loop and Temporal worker in one process.

    Logs to stdout. SIGTERM or Ctrl-C stops it: it claims no more rows, and finishes or releases those in work.
    """
    import sys

    from dispatcher.app import dry_run as dry_run_app
    from dispatcher.app import run as run_app
    from dispatcher.app.event_loop import run_in_loop
    from dispatcher.telemetry import logs

    settings = load_settings(env_file)
    logs.configure(settings.log_format, settings.log_level, stream=sys.stdout)
    if dry_run:
        run_in_loop(dry_run_app.run, settings)
    else:
        run_in_loop(run_app.run, settings, role)
