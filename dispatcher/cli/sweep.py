"""`dispatcher sweep`: one sweep by hand, for rows whose run or wake-up is lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.filter_options import AsJson
from dispatcher.cli.options import EnvFile, load_settings

if TYPE_CHECKING:
    from dispatcher.config.settings import Settings


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what a sweep would find.")] = False,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Sweep once, as every running dispatcher does by itself, and wake the dispatchers."""
    import anyio

    from dispatcher.cli.output import print_json, print_pairs

    settings = load_settings(env_file)
    report = anyio.run(count_findings if dry_run else sweep_outbox, settings)
    if as_json:
        print_json({"dry_run": dry_run, **report})
    else:
        print_pairs((name.replace("_", " "), number) for name, number in report.items())


async def count_findings(settings: "Settings") -> dict[str, int]:
    """Return how many rows of all enterprises a sweep would find, by reason. Changes nothing."""
    from dispatcher.cli.operator_session import open_operator

    async with open_operator(settings.database_url.get_secret_value(), settings.outbox) as operator:
        health, counts = await operator.read_health(), await operator.count_by_status()
    return {
        "leases_run_out": health["leases_run_out"],
        "held_by_nobody": health["unheld"],
        "retractions_to_notice": health["retractions_to_notice"],
        "retries_due": health["retries_due"],
        "due": counts["due"],
    }


async def sweep_outbox(settings: "Settings") -> dict[str, int]:
    """Sweep, and return how many rows it changed, by change."""
    from dataclasses import asdict

    from dispatcher.app.sweep_once import sweep_once
    from dispatcher.telemetry import logs

    logs.configure(settings.log_format, settings.log_level)
    return asdict(await sweep_once(settings))
