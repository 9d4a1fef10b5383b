"""Looks at everything that Dispatcher needs, from where you stand: what works, what does not, and what to do about it.

LEGS is the list, in the order in which it is told: our own settings, PostgreSQL, Temporal, Novu.
"""

from contextlib import AsyncExitStack

from dispatcher.doctor import ours, road, services, tables
from dispatcher.doctor.findings import Check, Context, Examination, Tell
from dispatcher.settings import Settings

OURS = (
    Check("http port", ours.http_port),
    Check("sentry", ours.sentry),
)
POSTGRES = (
    Check("dns", road.dns),
    Check("tcp", road.tcp, ("dns",)),
    Check("tls", road.tls, ("tcp",)),
    Check("auth", road.auth, ("tls",)),
    Check("server", road.server, ("auth",)),
    Check("pooler", road.pooler, ("auth",)),
    Check("notify", road.notify, ("server",)),
    Check("outbox", tables.outbox, ("server",)),
    Check("row security", tables.row_security, ("outbox",)),
    Check("rights", tables.rights, ("outbox",)),
    Check("ledger", tables.ledger, ("server",)),
    Check("definitions", tables.definitions, ("outbox", "ledger")),
    Check("triggers", tables.triggers, ("outbox", "ledger")),
    Check("indexes", tables.indexes, ("outbox", "ledger")),
    Check("notify queue", tables.queue, ("auth",)),
    Check("clock", tables.clock, ("auth",)),
    Check("nodes", tables.nodes, ("ledger",)),
)
TEMPORAL = (
    Check("temporal", services.temporal),
    Check("namespace", services.namespace, ("temporal",)),
    Check("pollers", services.pollers, ("namespace",)),
)
NOVU = (
    Check("novu", services.novu),
    Check("novu key", services.novu_key, ("novu",)),
    Check("idempotency", services.idempotency, ("novu key",)),
    Check("workflow keys", services.workflow_keys, ("novu key", "outbox")),
)
LEGS = (OURS, POSTGRES, TEMPORAL, NOVU)


def names() -> list[str]:
    """Return the checks in the order in which they are told."""
    return [check.name for leg in LEGS for check in leg]


async def examine(settings: Settings, tell: Tell) -> None:
    """Carry all checks out; `tell` hears of each in the order of the list."""
    async with AsyncExitStack() as exits:
        await Examination(Context(settings, exits), LEGS).run(tell)
