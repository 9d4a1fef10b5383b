"""`dispatcher db prune`: delete old outcomes from the ledger, as `dispatcher run` does by itself."""

import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import Outbox, Url, duration_from, options_from, setting, url_from
from dispatcher.cli.output import say

if TYPE_CHECKING:
    from dispatcher.postgres.pruning import Step

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def prune(
    older: Annotated[
        str | None,
        typer.Option("--older", help="Replaces DISPATCHER_LEDGER_RETENTION, for example 90d.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    database_url: Url = None,
    outbox: Outbox = None,
    as_json: AsJson = False,
) -> None:
    """Delete recipients of old outcomes from the ledger, and all that it has of rows that were deleted long ago.

    It runs in small steps beside running dispatchers, and never touches the outbox. It keeps rows that are open,
    wait for a retry, are dead letters or have triggers to cancel at Novu.
    """
    import anyio

    from dispatcher.app.prune_once import prune_once

    age = age_from(older)
    url, table = url_from(database_url), options_from(outbox).outbox

    async def run() -> "Step":
        return await prune_once(url, table, age=age, dry_run=dry_run, on_step=print_progress)

    done = anyio.run(run)
    if as_json:
        found = {"recipients": done.recipients, "heads": done.heads, "bytes": done.bytes}
        typer.echo(json.dumps({"dry_run": dry_run, "older_than_seconds": age.total_seconds(), **found}))
    else:
        typer.echo(summary(done, age, dry_run=dry_run))


def age_from(older: str | None) -> timedelta:
    """Return the age from which on is pruned: `--older` or the retention, but never less than the shortest one.

    Raises ConfigurationError if the retention is off and `--older` is not given.
    """
    from dispatcher.config.durations import format_duration
    from dispatcher.config.ledger_retention import shortest_retention
    from dispatcher.models.errors import ConfigurationError

    shortest = shortest_retention(
        duration_setting("DISPATCHER_NAMESPACE_RETENTION", "7d"), duration_setting("DISPATCHER_RETRY_HORIZON", "6h")
    )
    if older is None and (setting("DISPATCHER_LEDGER_RETENTION") or "").strip().lower() == "off":
        raise ConfigurationError("DISPATCHER_LEDGER_RETENTION is off: say with --older what may go, for example 90d")
    age = duration_from(older, "--older") if older else duration_setting("DISPATCHER_LEDGER_RETENTION", "30d")
    if age < shortest:
        say(f"nothing that is younger than {format_duration(shortest)} is ever pruned")
    return max(age, shortest)


def duration_setting(name: str, default: str) -> timedelta:
    """Return a setting that is a duration. Raises ConfigurationError, which names it."""
    return duration_from(setting(name) or default, name)


def print_progress(done: "Step") -> None:
    """Show the sums so far on a terminal."""
    if sys.stderr.isatty():
        end = done.walked_to is None
        typer.echo(f"\r{done.recipients} recipients, {done.heads} heads", nl=end, err=True)


def summary(done: "Step", age: timedelta, *, dry_run: bool) -> str:
    """Return the result in one line."""
    from dispatcher.config.durations import format_duration

    verb = "would prune" if dry_run else "pruned"
    size = f"{done.bytes / 1024**2:.1f} MiB without indexes"
    what = f"{done.recipients} recipients and {done.heads} heads older than {format_duration(age)}"
    again = "" if dry_run else "; VACUUM makes the space free for new rows"
    return f"{verb} {what} ({size}){again}"
