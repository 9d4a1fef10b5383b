"""Records by hand that the database lost its newest commits, which `postgres/restore_guard.py` cannot always notice."""

from psycopg import errors

from dispatcher.install.session import open_session
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.session import INSTALLER_SETTINGS, apply_settings

MARK = """
update dispatcher.installation set restored_at = clock_timestamp()
returning to_char(restored_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
"""


async def mark_restored(url: str) -> str:
    """Make rows that are due now be looked up at Novu before their first call. Return the time, as ISO 8601.

    Raises ConfigurationError if nothing is installed, or if an earlier version is.
    """
    async with open_session(url) as connection:
        try:
            async with connection.transaction():
                await apply_settings(connection, INSTALLER_SETTINGS, local=True)
                row = await (await connection.execute(MARK)).fetchone()
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
            raise ConfigurationError(
                "this database is not prepared for it: as the tables' owner run dispatcher db upgrade"
            ) from error
    if row is None:
        raise ConfigurationError("dispatcher.installation has no row: as the tables' owner run dispatcher db upgrade")
    return str(row[0])
