"""`dispatcher healthcheck`: asks the health port of this machine, so that an image needs no curl."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.options import EnvFile

Port = Annotated[int | None, typer.Option("--port", help="Instead of DISPATCHER_HTTP_PORT.", show_default=False)]


def healthcheck(
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether everything works, not only whether it runs.")
    ] = False,
    port: Port = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 5.0,
    env_file: EnvFile = Path(".env"),
) -> None:
    """Ask the `run` or `web` of this machine how it is: exit code 0 for fine, 1 for not, 3 when nobody answers."""
    from dispatcher.cli.options import fetch, health_address
    from dispatcher.models.errors import CheckFailed

    host, configured = health_address(env_file)
    number = configured if port is None else port
    status, text = fetch(host, number, "/readyz" if ready else "/livez", timeout)
    if as_json:
        typer.echo(text)
    if status != 200:
        raise CheckFailed(f"HTTP {status} at {host}:{number}: {text[:500]}")
