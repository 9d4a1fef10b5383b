"""`dispatcher web`: serve health, status and metrics from a separate process."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.options import EnvFile, load_settings

Host = Annotated[str | None, typer.Option("--host", help="Replaces DISPATCHER_HTTP_HOST.", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Replaces PORT and DISPATCHER_HTTP_PORT.", min=0, max=65535)]


def web(host: Host = None, port: Port = None, env_file: EnvFile = Path(".env")) -> None:
    """Serve /status, /metrics and health pages for all dispatchers, until SIGTERM or Ctrl-C.

    Reads only the database. If other machines can reach the port, DISPATCHER_HTTP_TOKEN has to be set.
    """
    import sys

    from dispatcher.app.event_loop import run_in_loop
    from dispatcher.app.web import run as serve
    from dispatcher.telemetry import logs

    settings = load_settings(env_file)
    given = {"http_host": host, "http_port": port}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_format, settings.log_level, stream=sys.stdout)
    run_in_loop(serve, settings)
