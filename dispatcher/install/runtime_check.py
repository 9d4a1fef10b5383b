"""Checks while a dispatcher runs that the outbox still has its columns, rights and triggers. Its owner may change them.

The result is the health of the component `outbox`, with the remedy in its reason.
"""

from functools import partial
from typing import NoReturn

import psycopg

from dispatcher.config.table_names import OutboxTable
from dispatcher.install import grants, preflight
from dispatcher.install.catalogue import missing_triggers
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.periodic import run_every
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection

CHECK_INTERVAL_SECONDS = 15.0


async def run_checks(pool: Pool, outbox: OutboxTable, *, triggers: bool) -> NoReturn:
    """Check at once, and then about every 15 s. `triggers`: whether the triggers' NOTIFY is needed."""
    check = partial(check_installation, pool, outbox, triggers=triggers)
    await run_every(CHECK_INTERVAL_SECONDS, check, component="outbox", failure_event="outbox_check_failed")


async def check_installation(pool: Pool, outbox: OutboxTable, *, triggers: bool) -> None:
    """Raise ConfigurationError if a table, a column, a right or a trigger is missing. Its sentence names the remedy."""
    try:
        async with borrow_connection(pool) as connection:
            oid = await preflight.check_outbox(connection, outbox)
            await grants.require_rights(connection, outbox, oid)
            missing = await missing_triggers(connection, oid) if triggers else {}
    except CONNECTION_ERRORS:
        raise
    except psycopg.Error as error:  # the checks themselves lack a right
        raise ConfigurationError(str(error)) from error
    if missing:
        raise ConfigurationError(
            f"trigger {' and '.join(f'{name} is {state}' for name, state in missing.items())}: commits send no NOTIFY,"
            " so rows wait for the sweep; as the tables' owner run dispatcher db upgrade"
        )
