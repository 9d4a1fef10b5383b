"""`dispatcher web`: health, status and metrics as a process of their own."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.options import EnvFile

Host = Annotated[str | None, typer.Option("--host", help="Instead of DISPATCHER_HTTP_HOST.", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Instead of PORT or DISPATCHER_HTTP_PORT.", min=0, max=65535)]


def web(host: Host = None, port: Port = None, env_file: EnvFile = Path(".env")) -> None:
    """Serve what the database knows of every dispatcher: /status, /metrics and health, until SIGTERM or Ctrl-C.

    Reads the database only. Beyond loopback DISPATCHER_HTTP_TOKEN has to be set.
    """
    import sys

    import anyio

    from dispatcher.app.web import run as serve
    from dispatcher.config.loading import load
    from dispatcher.telemetry import logs

    settings = load(env_file)
    given = {"http_host": host, "http_port": port}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_format, settings.log_level, stream=sys.stdout)
    anyio.run(serve, settings)
