"""`dispatcher sweep`: one look for rows that got lost, by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import EnvFile
from dispatcher.cli.row_filters import AsJson

if TYPE_CHECKING:
    from dispatcher.claim.rescuer import Found
    from dispatcher.config.settings import Settings


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a sweep would find.")] = False,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Look once for rows that got lost, as every running dispatcher does by itself, and wake the dispatchers."""
    import anyio

    from dispatcher.cli.output import data, pairs
    from dispatcher.config.settings import load

    settings = load(env_file)
    report = anyio.run(would_find if dry_run else look, settings)
    if as_json:
        data({"dry_run": dry_run, **report})
    else:
        pairs((name.replace("_", " "), number) for name, number in report.items())


async def would_find(settings: "Settings") -> dict[str, int]:
    """Return what a sweep would look after, of all enterprises."""
    from dispatcher.cli.operator_session import operations

    async with operations(settings.database_url.get_secret_value(), settings.outbox) as desk:
        health, counts = await desk.health(), await desk.counts()
    return {
        "leases_run_out": health["leases_run_out"],
        "held_by_nobody": health["unheld"],
        "retractions_to_notice": health["retractions_to_notice"],
        "retries_due": health["retries_due"],
        "due": counts["due"],
    }


async def look(settings: "Settings") -> dict[str, int]:
    """Sweep once; what is due is left to the dispatchers, which are woken."""
    import os
    import socket

    from dispatcher.app import run
    from dispatcher.claim.rescuer import Sweep
    from dispatcher.telemetry import logs
    from dispatcher.temporal.client import connect
    from dispatcher.temporal.starter import Starter
    from dispatcher.wakeup.listener import Deaf
    from dispatcher.wakeup.signal import Wake

    logs.configure(settings.log_format, settings.log_level)
    wake = Wake()
    async with run.database(settings) as pool:
        client = await connect(settings.temporal_environment, create_namespace=False)
        outbox = await run.open_outbox(pool, settings, f"sweep-{socket.gethostname()[:40]}-{os.getpid()}")
        starter = Starter(client, settings.task_queue)
        by_hand = Sweep(outbox, starter, wake, Deaf(wake), interval=settings.sweep_interval, lease=settings.lease)
        found: Found = await by_hand.look()
        await outbox.ring()
    return {"renewed": found.renewed, "rescued": found.rescued, "adopted": found.adopted}
