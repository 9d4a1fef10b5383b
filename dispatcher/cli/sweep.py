"""`dispatcher sweep`: one look for rows that got lost, by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.asked import EnvFile
from dispatcher.cli.which import AsJson

if TYPE_CHECKING:
    from dispatcher.settings import Settings
    from dispatcher.sweep import Found


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a sweep would find.")] = False,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Look once for rows that got lost, as every running dispatcher does by itself, and wake the dispatchers."""
    import anyio

    from dispatcher.cli.screen import data, pairs
    from dispatcher.settings import load

    settings = load(env_file)
    report = anyio.run(would_find if dry_run else look, settings)
    if as_json:
        data({"dry_run": dry_run, **report})
    else:
        pairs((name.replace("_", " "), number) for name, number in report.items())


async def would_find(settings: "Settings") -> dict[str, int]:
    """Return what a sweep would look after, of all enterprises."""
    from dispatcher.cli.desk import operations

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

    from dispatcher import app, logs, temporal
    from dispatcher.listener import Deaf
    from dispatcher.sweep import Sweep
    from dispatcher.wake import Wake

    logs.configure(settings.log_format, settings.log_level)
    wake = Wake()
    async with app.database(settings) as pool:
        client = await temporal.connect(settings.temporal_environment, create_namespace=False)
        outbox = await app.open_outbox(pool, settings, f"sweep-{socket.gethostname()[:40]}-{os.getpid()}")
        starter = temporal.Starter(client, settings.task_queue)
        by_hand = Sweep(outbox, starter, wake, Deaf(wake), interval=settings.sweep_interval, lease=settings.lease)
        found: Found = await by_hand.look()
        await outbox.ring()
    return {"renewed": found.renewed, "rescued": found.rescued, "adopted": found.adopted}
