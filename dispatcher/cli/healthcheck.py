"""`dispatcher healthcheck`: requests a health page of this machine, so that an image needs no curl."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.options import EnvFile

Port = Annotated[int | None, typer.Option("--port", help="Replaces DISPATCHER_HTTP_PORT.", show_default=False)]


def healthcheck(
    ready: Annotated[bool, typer.Option("--ready", help="Check that everything works, not only that it runs.")] = False,
    port: Port = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="How many seconds to wait.")] = 5.0,
    env_file: EnvFile = Path(".env"),
) -> None:
    """Check `run` or `web` on this machine. Exit code 0 if it is healthy, 1 if it is not, 3 if it does not answer."""
    from dispatcher.cli.options import fetch, health_address
    from dispatcher.models.errors import CheckFailed

    host, configured = health_address(env_file)
    number = configured if port is None else port
    status, text = fetch(host, number, "/readyz" if ready else "/livez", timeout)
    if as_json:
        typer.echo(text)
    if status != 200:
        raise CheckFailed(f"HTTP {status} at {host}:{number}: {text[:500]}")
