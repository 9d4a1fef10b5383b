"""The options that select rows, and the `RowFilter` that they make."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.models.notification import Status

if TYPE_CHECKING:
    from dispatcher.postgres.row_filter import RowFilter

MAX_BIGINT = 2**63 - 1

Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", help="The ids of notifications.", min=1, max=MAX_BIGINT, show_default=False),
]
StatusNames = Annotated[
    list[str] | None,
    typer.Option("--status", "-s", help="Only these statuses; separate several by commas.", show_default=False),
]
Enterprise = Annotated[
    str | None, typer.Option("--enterprise", help="Only this enterprise, by its id.", show_default=False)
]
Workflow = Annotated[
    str | None, typer.Option("--workflow", help="Only this Novu workflow, by its key.", show_default=False)
]
Error = Annotated[
    str | None, typer.Option("--error", help="Only rows whose last error contains this text.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Only rows created within this duration, or since this time.", show_default=False),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help="Only rows created before: a duration ago, or a time.", show_default=False),
]
Dead = Annotated[
    bool, typer.Option("--dead-letters", help="Only dead letters: failed rows that will not be retried automatically.")
]
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
    """Return the filter that the options make; `between`: --since and --until.

    Raises ConfigurationError for a value that is invalid or empty. An unset shell variable is empty, and must not
    select every row.
    """
    from dispatcher.models.errors import ConfigurationError
    from dispatcher.postgres.row_filter import RowFilter

    names = " ".join(statuses).replace(",", " ").split() if statuses else None
    given = {"--status": names, "--enterprise": enterprise, "--workflow": workflow, "--error": error}
    for option, value in given.items():
        if value is not None and not value:
            raise ConfigurationError(f"{option} is empty: give it a value, or leave it out")
    return RowFilter(
        statuses=tuple(map(parse_status, names or ())),
        enterprise=enterprise.lower() if enterprise else None,  # PostgreSQL writes a uuid in lower case
        workflow=workflow,
        error=error,
        since=parse_time(between[0], "--since"),
        until=parse_time(between[1], "--until"),
        dead=dead,
    )


def parse_status(text: str) -> Status:
    """Return the status with this name, in upper or lower case. Raises ConfigurationError for an unknown one."""
    from dispatcher.models.errors import ConfigurationError

    try:
        return Status(text.upper())
    except ValueError:
        raise ConfigurationError(f"--status {text} does not exist: use {', '.join(Status)}") from None


def parse_time(text: str | None, option: str) -> datetime | timedelta | None:
    """Return a time, in UTC if it names no zone, or a duration that counts back from now."""
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
