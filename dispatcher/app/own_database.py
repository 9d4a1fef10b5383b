"""Keeps a process waiting while its database may be a copy of the installation's, or the original in another place.

Such a process stays alive and answers health checks, but starts no part that claims, sends or cancels.
"""

import asyncio
import contextlib

import anyio
from psycopg import errors

from dispatcher.config.settings import Settings
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import Installation, read_installation
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool, borrow_connection
from dispatcher.telemetry import health
from dispatcher.telemetry.logs import get_logger

CHECK_INTERVAL_SECONDS = 5.0

log = get_logger("own_database")


async def wait_for_own_database(pool: Pool, settings: Settings, stop: asyncio.Event) -> Installation | None:
    """Return the installation as soon as the database is known to be its own; None if `stop` comes first.

    While it is not, the component `outbox` has failed: this is one alert, and readiness names it.
    """
    reported = False
    while not stop.is_set():
        try:
            async with borrow_connection(pool) as connection:
                installation = await read_installation(connection)
            reason = installation.mismatch(settings.installation)
            if reason is None:
                if installation.is_elsewhere:
                    await mark_confirmed(pool, installation)
                return installation
            health.report_failure("outbox", reason)
            if not reported:
                log.warning("installation_elsewhere", installation=str(installation.id), reason=reason)
                reported = True
        except CONNECTION_ERRORS as error:
            health.report_failure("postgres", f"{type(error).__name__}: {error}")
        except ConfigurationError as error:
            health.report_failure("outbox", str(error))
        with anyio.move_on_after(CHECK_INTERVAL_SECONDS):
            await stop.wait()
    return None


async def mark_confirmed(pool: Pool, installation: Installation) -> None:
    """Log that the setting confirms the original in a new place, and let its waiting rows be looked up at Novu first.

    It may have come back without its newest commits. An earlier version's ledger or role cannot record this.
    """
    log.warning("installation_confirmed", installation=str(installation.id))
    with contextlib.suppress(errors.UndefinedColumn, errors.InsufficientPrivilege):
        async with borrow_connection(pool) as connection, connection.transaction():
            await connection.execute("update dispatcher.installation set restored_at = clock_timestamp()")
