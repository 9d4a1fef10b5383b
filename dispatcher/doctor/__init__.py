"""`dispatcher doctor`: checks everything that Dispatcher needs, from this machine, with a remedy for each failure.

GROUPS lists the checks in the order of the output: settings, PostgreSQL, Temporal, Novu.
"""

from contextlib import AsyncExitStack

from dispatcher.config.settings import Settings
from dispatcher.doctor import postgres_connection, postgres_schema, services, settings_checks
from dispatcher.doctor.runner import Check, Context, OnFinding, Runner

SETTINGS = (
    Check("http port", settings_checks.http_port),
    Check("sentry", settings_checks.sentry),
)
POSTGRES = (
    Check("dns", postgres_connection.dns),
    Check("tcp", postgres_connection.tcp, ("dns",)),
    Check("tls", postgres_connection.tls, ("tcp",)),
    Check("auth", postgres_connection.auth, ("tls",)),
    Check("server", postgres_connection.server, ("auth",)),
    Check("pooler", postgres_connection.pooler, ("auth",)),
    Check("notify", postgres_connection.notify, ("server",)),
    Check("outbox", postgres_schema.outbox, ("server",)),
    Check("row security", postgres_schema.row_security, ("outbox",)),
    Check("rights", postgres_schema.rights, ("outbox",)),
    Check("ledger", postgres_schema.ledger, ("server",)),
    Check("definitions", postgres_schema.definitions, ("outbox", "ledger")),
    Check("refused rows", postgres_schema.refused_rows, ("row security", "rights", "ledger")),
    Check("triggers", postgres_schema.triggers, ("outbox", "ledger")),
    Check("indexes", postgres_schema.indexes, ("outbox", "ledger")),
    Check("notify queue", postgres_schema.queue, ("auth",)),
    Check("clock", postgres_schema.clock, ("auth",)),
    Check("nodes", postgres_schema.nodes, ("ledger",)),
    Check("statuses", postgres_schema.statuses, ("ledger",)),
)
TEMPORAL = (
    Check("temporal", services.temporal),
    Check("namespace", services.namespace, ("temporal",)),
    Check("pollers", services.pollers, ("namespace", "ledger")),
)
NOVU = (
    Check("novu", services.novu),
    Check("novu key", services.novu_key, ("novu",)),
    Check("idempotency", services.idempotency, ("novu key",)),
    Check("workflow keys", services.workflow_keys, ("novu key", "outbox")),
)
GROUPS = (SETTINGS, POSTGRES, TEMPORAL, NOVU)


def check_names() -> list[str]:
    """Return the names of the checks in the order of the output."""
    return [check.name for group in GROUPS for check in group]


async def run_checks(settings: Settings, on_finding: OnFinding) -> None:
    """Run all checks; `on_finding` is called for each in the order of the list."""
    async with AsyncExitStack() as exits:
        await Runner(Context(settings, exits), GROUPS).run(on_finding)
