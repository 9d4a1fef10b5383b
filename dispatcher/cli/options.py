"""What commands share of being asked: options, what stands in the environment where one is not given, and questions."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dispatcher.install import Options

EnvFile = Annotated[Path, typer.Option("--env-file", help="Read settings from this file too; the environment wins.")]
Url = Annotated[str | None, typer.Option("--database-url", help="Instead of DATABASE_URL.", show_default=False)]
Outbox = Annotated[str | None, typer.Option("--outbox", help="Instead of DISPATCHER_OUTBOX.", show_default=False)]
NoIndex = Annotated[bool, typer.Option("--no-index", help="Leave the outbox without our indexes: sweeps scan it.")]
LockTimeout = Annotated[str, typer.Option("--lock-timeout", help="How long writers may have to wait, per attempt.")]
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (to be asked, not to be bound)


def options_from(
    outbox: str | None, lock_timeout: str = "3s", *, no_index: bool = False, ledger: bool = False
) -> "Options":
    """Return what the command line and the environment ask for."""
    from dispatcher.install import Options

    name = outbox or setting("DISPATCHER_OUTBOX") or Options.outbox
    return Options(name, not no_index, ledger, duration(lock_timeout, "--lock-timeout"))


def url_from(option: str | None) -> str:
    """Return the database's URL; ConfigurationError when nobody named it."""
    from dispatcher.models.errors import ConfigurationError

    url = option or setting("DATABASE_URL")
    if url is None:
        raise ConfigurationError("DATABASE_URL is not set: set it, or give --database-url")
    return url


def direct_url_from(option: str | None) -> str:
    """Return the URL for work that needs a session of its own: the direct one, where one is named beside a pooler's."""
    return option or setting("DISPATCHER_LISTEN_DATABASE_URL") or url_from(None)


def setting(name: str, env_file: Path = Path(".env")) -> str | None:
    """Return a variable of the environment or of the .env file. The other settings may still be incomplete."""
    from dispatcher.config.setting_sources import find_setting, read_sources

    found = find_setting([name], read_sources(env_file))
    return found.value if found else None


def health_address(env_file: Path) -> tuple[str, int]:
    """Return where the health port is. Read without the settings' library, which a check every few seconds need not pay
    for, and without the other settings, which a container's health check may not have."""
    from dispatcher.config.setting_sources import find_setting, read_sources
    from dispatcher.models.errors import ConfigurationError

    places = read_sources(env_file)
    host = find_setting(["DISPATCHER_HTTP_HOST"], places)
    port = find_setting(["DISPATCHER_HTTP_PORT", "PORT", "WORKER_HEALTH_PORT", "DAEMON_HEALTH_PORT"], places)
    if port and not (port.value.isdecimal() and int(port.value) <= 65_535):
        raise ConfigurationError(f"{port.variable} should be a port, a number up to 65535")
    return host.value if host else "127.0.0.1", int(port.value) if port else 3001


def fetch(host: str, port: int, path: str, seconds: float, token: str | None = None) -> tuple[int, str]:
    """Return what the health port answers, status and text; Unreachable when nobody does."""
    from http.client import HTTPConnection, HTTPException

    from dispatcher.models.errors import ConfigurationError, Unreachable

    if port == 0:
        raise ConfigurationError("DISPATCHER_HTTP_PORT is 0, any free port: say which with --port")
    connection = HTTPConnection(WILDCARDS.get(host, host), port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read(100_000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(f"nobody answers at {host}:{port} ({type(error).__name__}). Is it running?") from None
    finally:
        connection.close()


def duration(text: str, option: str) -> timedelta:
    """Return the length of time that an option was given."""
    from dispatcher.config.durations import parse_duration
    from dispatcher.models.errors import ConfigurationError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def ask_confirmation(question: str) -> None:
    """Ask the person; return only at a yes. A no is exit code 1, Ctrl-C 130 as everywhere."""
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        raise KeyboardInterrupt from None
    raise typer.Exit(1)
