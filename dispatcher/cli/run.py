"""`dispatcher run`: the process that a platform keeps alive."""

from pathlib import Path

from dispatcher.cli.asked import EnvFile


def run(env_file: EnvFile = Path(".env")) -> None:
    """Watch the outbox and deliver: listener, sweep, dispatch and Temporal worker in one process.

    Logs to stdout. SIGTERM or Ctrl-C stops it: nothing new is taken, what runs is finished or handed back.
    """
    import sys

    import anyio

    from dispatcher import app, logs
    from dispatcher.settings import load

    settings = load(env_file)
    logs.configure(settings.log_format, settings.log_level, stream=sys.stdout)
    anyio.run(app.run, settings)
