"""`dispatcher healthcheck`: asks the health port of this machine, so that an image needs no curl."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.asked import EnvFile

Port = Annotated[int | None, typer.Option("--port", help="Instead of DISPATCHER_HTTP_PORT.", show_default=False)]
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (to be asked, not to be bound)


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
    from http.client import HTTPConnection, HTTPException

    from dispatcher.cli.asked import address
    from dispatcher.errors import CheckFailed, ConfigurationError, Unreachable

    host, configured = address(env_file)
    number = configured if port is None else port
    if number == 0:
        raise ConfigurationError("DISPATCHER_HTTP_PORT is 0, any free port: say which with --port")
    connection = HTTPConnection(WILDCARDS.get(host, host), number, timeout=timeout)
    try:
        connection.request("GET", "/readyz" if ready else "/livez")
        answer = connection.getresponse()
        text = answer.read(100_000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(f"nobody answers at {host}:{number} ({type(error).__name__}). Is it running?") from None
    finally:
        connection.close()
    if as_json:
        typer.echo(text)
    if answer.status != 200:
        raise CheckFailed(f"HTTP {answer.status} at {host}:{number}: {text[:500]}")
