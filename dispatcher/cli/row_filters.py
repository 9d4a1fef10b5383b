"""Which rows a command is about: its options, and the filters they make."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dispatcher.postgres.operator_queries import RowFilter

STATUSES = ("PENDING", "PROCESSING", "SENT", "PARTIAL", "FAILED", "RETRACTED")
MAX_BIGINT = 2**63 - 1

Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", help="Notifications by their ids.", min=1, max=MAX_BIGINT, show_default=False),
]
Status = Annotated[
    list[str] | None,
    typer.Option("--status", "-s", help="Only these statuses; several with commas.", show_default=False),
]
Enterprise = Annotated[str | None, typer.Option("--enterprise", help="Only this enterprise.", show_default=False)]
Workflow = Annotated[
    str | None, typer.Option("--workflow", help="Only this Novu workflow, by its key.", show_default=False)
]
Error = Annotated[
    str | None, typer.Option("--error", help="Only rows whose last error contains this text.", show_default=False)
]
Since = Annotated[
    str | None, typer.Option("--since", help="Only rows created since: 2h ago, or a time.", show_default=False)
]
Until = Annotated[str | None, typer.Option("--until", help="Only rows created before.", show_default=False)]
Dead = Annotated[bool, typer.Option("--dead-letters", help="Only rows that wait for a person.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def filters_from(
    statuses: list[str] | None,
    enterprise: str | None,
    workflow: str | None,
    error: str | None,
    between: tuple[str | None, str | None],
    *,
    dead: bool,
) -> "RowFilter":
    """Return what the options ask for; ConfigurationError for what cannot be meant, such as an empty variable."""
    from dispatcher.models.errors import ConfigurationError
    from dispatcher.postgres.operator_queries import RowFilter

    named = " ".join(statuses).replace(",", " ").split() if statuses else None
    given = {"--status": named, "--enterprise": enterprise, "--workflow": workflow, "--error": error}
    for option, value in given.items():
        if value is not None and not value:
            raise ConfigurationError(f"{option} is empty: leave it out, or say which")
    return RowFilter(
        statuses=tuple(map(parse_status, named or ())),
        enterprise=enterprise.lower() if enterprise else None,  # as PostgreSQL writes a uuid
        workflow=workflow,
        error=error,
        since=parse_time(between[0], "--since"),
        until=parse_time(between[1], "--until"),
        dead=dead,
    )


def parse_status(text: str) -> str:
    """Return the status that somebody typed."""
    from dispatcher.models.errors import ConfigurationError

    if text.upper() not in STATUSES:
        raise ConfigurationError(f"--status {text} is none: use {', '.join(STATUSES)}")
    return text.upper()


def parse_time(text: str | None, option: str) -> datetime | timedelta | None:
    """Return a time, or how long ago it was."""
    from datetime import UTC

    from dispatcher.config.durations import parse_duration
    from dispatcher.models.errors import ConfigurationError

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text} is no time: use 90s, 2h, 7d or 2026-03-01T12:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
