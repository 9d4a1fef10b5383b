"""`dispatcher sweep`: one look for rows that got lost, by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import EnvFile
from dispatcher.cli.row_filters import AsJson

if TYPE_CHECKING:
    from dispatcher.claim.rescuer import SweepResult
    from dispatcher.config.settings import Settings


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a sweep would find.")] = False,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Look once for rows that got lost, as every running dispatcher does by itself, and wake the dispatchers."""
    import anyio

    from dispatcher.cli.output import print_json, print_pairs
    from dispatcher.config.loading import load

    settings = load(env_file)
    report = anyio.run(count_findings if dry_run else sweep_once, settings)
    if as_json:
        print_json({"dry_run": dry_run, **report})
    else:
        print_pairs((name.replace("_", " "), number) for name, number in report.items())


async def count_findings(settings: "Settings") -> dict[str, int]:
    """Return what a sweep would look after, of all enterprises."""
    from dispatcher.cli.operator_session import open_operator

    async with open_operator(settings.database_url.get_secret_value(), settings.outbox) as desk:
        health, counts = await desk.read_health(), await desk.count_by_status()
    return {
        "leases_run_out": health["leases_run_out"],
        "held_by_nobody": health["unheld"],
        "retractions_to_notice": health["retractions_to_notice"],
        "retries_due": health["retries_due"],
        "due": counts["due"],
    }


async def sweep_once(settings: "Settings") -> dict[str, int]:
    """Sweep once; what is due is left to the dispatchers, which are woken."""
    import os
    import socket

    from dispatcher.app import connections
    from dispatcher.claim.rescuer import Rescuer
    from dispatcher.telemetry import logs
    from dispatcher.temporal.client import connect_to_namespace
    from dispatcher.temporal.starter import WorkflowStarter
    from dispatcher.wakeup.listener import PollOnly
    from dispatcher.wakeup.signal import WakeUp

    logs.configure(settings.log_format, settings.log_level)
    wake = WakeUp()
    async with connections.open_database(settings) as pool:
        client = await connect_to_namespace(settings.temporal_environment, create_namespace=False)
        outbox = await connections.open_outbox(pool, settings, f"sweep-{socket.gethostname()[:40]}-{os.getpid()}")
        starter = WorkflowStarter(client, settings.task_queue)
        by_hand = Rescuer(outbox, starter, wake, PollOnly(wake), interval=settings.sweep_interval, lease=settings.lease)
        found: SweepResult = await by_hand.run_rescue()
        await outbox.notify_all()
    return {"renewed": found.renewed, "rescued": found.rescued, "adopted": found.adopted}
