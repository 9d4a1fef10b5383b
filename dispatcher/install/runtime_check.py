"""Looks, while a dispatcher runs, whether the outbox is still what its start found: its owner may change it any time.

For app.py: what is missing is the part `outbox` of the process's condition, with the remedy in its words.
"""

import random
from typing import NoReturn

import anyio
import psycopg

from dispatcher.config.table_names import Outbox
from dispatcher.install import grants, preflight
from dispatcher.install.catalogue import silent_triggers
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.pool import LOST, Pool, using
from dispatcher.telemetry import health

LOOK_SECONDS = 15.0


async def watch(pool: Pool, outbox: Outbox, *, triggers: bool) -> NoReturn:
    """Look at once, and again and again. `triggers`: whether wake-ups are wanted."""
    while True:
        try:
            await look(pool, outbox, triggers=triggers)
            health.whole("outbox")
        except LOST:
            pass  # nothing was learned, and who else asks says it
        except (ConfigurationError, psycopg.Error) as error:
            health.broken("outbox", str(error))
        await anyio.sleep(LOOK_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311


async def look(pool: Pool, outbox: Outbox, *, triggers: bool) -> None:
    """Raise ConfigurationError naming what is no longer there, and what to do about it."""
    async with using(pool) as connection:
        oid = await preflight.check_outbox(connection, outbox)
        await grants.require(connection, outbox, oid)
        silent = await silent_triggers(connection, oid) if triggers else {}
    if silent:
        raise ConfigurationError(
            f"trigger {' and '.join(f'{name} is {state}' for name, state in silent.items())}: commits wake nobody, rows"
            " wait for the sweep; as the tables' owner run dispatcher db upgrade"
        )
