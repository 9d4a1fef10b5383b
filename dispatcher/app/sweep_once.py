"""One sweep outside a running dispatcher: what `dispatcher sweep` starts."""

import os
import socket

from dispatcher.app.connections import open_database, open_installation, open_outbox, queues_of
from dispatcher.claim.rescuer import Rescuer, SweepResult
from dispatcher.config.settings import Settings
from dispatcher.temporal.client import connect_to_namespace
from dispatcher.temporal.starter import WorkflowStarter
from dispatcher.wakeup.listener import PollOnly
from dispatcher.wakeup.signal import WakeUp


async def sweep_once(settings: Settings) -> SweepResult:
    """Sweep once and return the counts. Claims nothing: a NOTIFY wakes the running dispatchers for rows that are due.

    Raises a `DispatcherError` if PostgreSQL or Temporal does not answer.
    """
    wake = WakeUp()
    node = f"sweep-{socket.gethostname()[:40]}-{os.getpid()}"
    async with open_database(settings) as pool:
        client = await connect_to_namespace(settings.temporal_environment, create_namespace=False)
        outbox = await open_outbox(pool, settings, node)
        starter = WorkflowStarter(client, queues_of(settings, await open_installation(pool, settings)))
        rescuer = Rescuer(outbox, starter, wake, PollOnly(wake), interval=settings.sweep_interval, lease=settings.lease)
        result = await rescuer.run_rescue()
        await outbox.notify_all()
    return result
