"""Options that several commands share, the settings that replace them if they are not given, and the question y/N."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uuid import UUID

    from dispatcher.config.loading import UnknownSettings
    from dispatcher.config.settings import Settings
    from dispatcher.install import Options

EnvFile = Annotated[
    Path, typer.Option("--env-file", help="Also read settings from this file; environment variables take precedence.")
]
Url = Annotated[str | None, typer.Option("--database-url", help="Replaces DATABASE_URL.", show_default=False)]
Outbox = Annotated[str | None, typer.Option("--outbox", help="Replaces DISPATCHER_OUTBOX.", show_default=False)]
NoIndex = Annotated[
    bool, typer.Option("--no-index", help="Do not create our indexes on the outbox. Each sweep then scans the table.")
]
LockTimeout = Annotated[
    str, typer.Option("--lock-timeout", help="How long one attempt to lock the outbox may make writers wait.")
]
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (an address to connect to, not to listen at)
"""The address to connect to, for a port that listens at every address."""


def load_settings(env_file: Path) -> "Settings":
    """Return the complete settings. From now on this process hides their secrets in logs, errors and rows.

    An unknown setting is only warned about if a newer version has upgraded the database: after a rollback the settings
    of that version may still be there. Raises ConfigurationError as `loading.load` does.
    """
    from dispatcher.config.loading import UnknownSettings, load
    from dispatcher.config.secret_values import secret_values
    from dispatcher.telemetry.redaction import process_secrets

    unknown: UnknownSettings | None = None
    try:
        settings = load(env_file)
    except UnknownSettings as error:
        unknown, settings = error, error.settings
    process_secrets.set(secret_values(settings))
    if unknown is not None:
        warn_after_rollback(unknown)
    return settings


def warn_after_rollback(unknown: "UnknownSettings") -> None:
    """Print a warning about settings of a newer version. Raises `unknown` if no newer version upgraded the database."""
    import anyio

    from dispatcher.cli.output import say
    from dispatcher.install import is_ledger_newer
    from dispatcher.models.errors import Unreachable

    try:
        newer = anyio.run(is_ledger_newer, unknown.settings.database_url.get_secret_value())
    except Unreachable as error:
        raise unknown from error
    if not newer:
        raise unknown
    say(
        f"warning: ignored {', '.join(unknown.names)}: no setting of this version; a newer version upgraded this"
        " database, so it may be a setting of that one"
    )


def options_from(
    outbox: str | None, lock_timeout: str = "3s", *, no_index: bool = False, ledger: bool = False
) -> "Options":
    """Return the install options that command line and environment give."""
    from dispatcher.install import Options

    name = outbox or setting("DISPATCHER_OUTBOX") or Options.outbox
    limit = duration_from(lock_timeout, "--lock-timeout")
    return Options(name, not no_index, ledger, limit, installation_from_setting())


def installation_from_setting() -> "UUID | None":
    """Return DISPATCHER_INSTALLATION. Raises ConfigurationError if it is not a UUID."""
    from uuid import UUID

    from dispatcher.models.errors import ConfigurationError

    text = setting("DISPATCHER_INSTALLATION")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise ConfigurationError(
            "DISPATCHER_INSTALLATION is not a UUID: copy it from dispatcher.installation"
        ) from None


def url_from(option: str | None) -> str:
    """Return the database's URL. Raises ConfigurationError if neither the option nor DATABASE_URL gives it."""
    from dispatcher.models.errors import ConfigurationError

    url = option or setting("DATABASE_URL")
    if url is None:
        raise ConfigurationError("DATABASE_URL is not set: set it, or give --database-url")
    return url


def direct_url_from(option: str | None) -> str:
    """Return the URL for work that needs its own session: DISPATCHER_LISTEN_DATABASE_URL if DATABASE_URL is a pooler's.

    Raises ConfigurationError if no URL is given.
    """
    return option or setting("DISPATCHER_LISTEN_DATABASE_URL") or url_from(None)


def setting(name: str, env_file: Path = Path(".env")) -> str | None:
    """Return a variable of the environment or of the .env file. Does not check whether other settings are complete."""
    from dispatcher.config.setting_sources import find_setting, read_sources

    found = find_setting([name], read_sources(env_file))
    return found.value if found else None


def health_address(env_file: Path) -> tuple[str, int]:
    """Return host and port of the health port. Raises ConfigurationError for an invalid port.

    This does not load `Settings`: a health check runs every few seconds, so it must not import pydantic, and a
    container's health check may not have the other settings.
    """
    from dispatcher.config.setting_sources import find_setting, read_sources
    from dispatcher.models.errors import ConfigurationError

    sources = read_sources(env_file)
    host = find_setting(["DISPATCHER_HTTP_HOST"], sources)
    port = find_setting(["DISPATCHER_HTTP_PORT", "PORT", "WORKER_HEALTH_PORT", "DAEMON_HEALTH_PORT"], sources)
    if port and not (port.value.isdecimal() and int(port.value) <= 65_535):
        raise ConfigurationError(f"{port.variable} should be a port, a number up to 65535")
    return host.value if host else "127.0.0.1", int(port.value) if port else 3001


def fetch(host: str, port: int, path: str, seconds: float, token: str | None = None) -> tuple[int, str]:
    """Return the HTTP status and the text of a page of the health port; the text is cut at 100,000 bytes.

    Raises Unreachable if there is no answer within `seconds`, ConfigurationError for port 0.
    """
    from http.client import HTTPConnection, HTTPException

    from dispatcher.models.errors import ConfigurationError, Unreachable

    if port == 0:
        raise ConfigurationError("DISPATCHER_HTTP_PORT is 0, which means any free port: name the port with --port")
    connection = HTTPConnection(LOOPBACK.get(host, host), port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read(100_000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(
            f"no answer from {host}:{port} ({type(error).__name__}). Is the dispatcher running?"
        ) from None
    finally:
        connection.close()


def duration_from(text: str, option: str) -> timedelta:
    """Return the duration that an option was given. Raises ConfigurationError, which names the option."""
    from dispatcher.config.durations import parse_duration
    from dispatcher.models.errors import ConfigurationError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def ask_confirmation(question: str) -> None:
    """Ask on the terminal, and return if the answer is yes. No is exit code 1, and Ctrl-C raises KeyboardInterrupt."""
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        raise KeyboardInterrupt from None
    raise typer.Exit(1)
