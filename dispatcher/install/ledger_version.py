"""Tells whether the ledger is older or newer than this version, to a role that may not read `dispatcher.migration`."""

from dispatcher.install.files import Part, as_sql, installer_files
from dispatcher.install.session import Connection, one_value
from dispatcher.models.errors import ConfigurationError

TELLS = """
select case when to_regprocedure('dispatcher.applied_files_v1()') is null then false
  else has_schema_privilege('dispatcher', 'USAGE')
    and has_function_privilege('dispatcher.applied_files_v1()', 'EXECUTE') end
"""


async def applied_names(connection: Connection) -> set[str]:
    """Return the names of the applied files; none if an older version installed the ledger, or if there is none."""
    if not await one_value(connection, TELLS):
        return set()
    rows = await (await connection.execute(as_sql("select dispatcher.applied_files_v1()"))).fetchall()
    return {str(name) for (name,) in rows}


async def is_newer(connection: Connection) -> bool:
    """Return whether a file was applied that this version does not know."""
    known = {file.name for file in installer_files()}
    return not await applied_names(connection) <= known


async def require_current(connection: Connection) -> None:
    """Raise ConfigurationError if a change of the ledger that this version needs was not made."""
    applied = await applied_names(connection)
    missing = [file.name for file in installer_files() if file.part is Part.LEDGER and file.name not in applied]
    if missing:
        raise ConfigurationError(
            f"the ledger in schema dispatcher is older than this version, it lacks {missing[-1]}: as the tables' owner"
            " run dispatcher db upgrade"
        )
