"""Looks, while a dispatcher runs, whether the outbox is still what its start found: its owner may change it any time.

For app.py: what is missing is the part `outbox` of the process's condition, with the remedy in its words.
"""

import random
from typing import NoReturn

import anyio
import psycopg

from dispatcher.config.table_names import OutboxTable
from dispatcher.install import grants, preflight
from dispatcher.install.catalogue import missing_triggers
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection
from dispatcher.telemetry import health

CHECK_INTERVAL_SECONDS = 15.0


async def run_checks(pool: Pool, outbox: OutboxTable, *, triggers: bool) -> NoReturn:
    """Look at once, and again and again. `triggers`: whether wake-ups are wanted."""
    while True:
        try:
            await check_installation(pool, outbox, triggers=triggers)
            health.report_ok("outbox")
        except CONNECTION_ERRORS:
            pass  # nothing was learned, and who else asks says it
        except (ConfigurationError, psycopg.Error) as error:
            health.report_failure("outbox", str(error))
        await anyio.sleep(CHECK_INTERVAL_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311


async def check_installation(pool: Pool, outbox: OutboxTable, *, triggers: bool) -> None:
    """Raise ConfigurationError naming what is no longer there, and what to do about it."""
    async with borrow_connection(pool) as connection:
        oid = await preflight.check_outbox(connection, outbox)
        await grants.require_rights(connection, outbox, oid)
        silent = await missing_triggers(connection, oid) if triggers else {}
    if silent:
        raise ConfigurationError(
            f"trigger {' and '.join(f'{name} is {state}' for name, state in silent.items())}: commits wake nobody, rows"
            " wait for the sweep; as the tables' owner run dispatcher db upgrade"
        )
