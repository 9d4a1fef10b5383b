"""Reads which installation a database holds, and whether an outbox is the installation's."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql

from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.statements import load_query

INSTALLATION = "select id from dispatcher.installation"
READABLE = """
select from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'dispatcher' and c.relname = 'installation'
  and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """The row of `dispatcher.installation`. `id`: part of every identity that we send to Novu."""

    id: UUID


async def read_installation(connection: AsyncConnection[Any]) -> Installation:
    """Return the database's installation. Raises `ConfigurationError` if its row is missing."""
    row = await (await connection.execute(INSTALLATION)).fetchone()
    if row is None:
        raise ConfigurationError("dispatcher.installation has no row: as the tables' owner run dispatcher db upgrade")
    return Installation(row[0])


async def is_readable(connection: AsyncConnection[Any]) -> bool:
    """Return whether the table `dispatcher.installation` exists and this session's role may read it."""
    return await (await connection.execute(READABLE)).fetchone() is not None


async def find_other_outbox(connection: AsyncConnection[Any], relation: str) -> str | None:
    """Return the name of the installation's outbox if that is another table than `relation`, which exists.

    None also if it is not known: nothing is installed, an earlier version installed it, or we may not read the table.
    """
    if not await is_readable(connection):
        return None
    statement = load_query("other_outbox", relation=sql.Literal(relation))
    row = await (await connection.execute(statement)).fetchone()
    return row[0] if row else None


async def require_own_outbox(connection: AsyncConnection[Any], relation: str) -> None:
    """Raise `ConfigurationError` if another outbox of this database has the ledger. `relation`: as schema.table."""
    if other := await find_other_outbox(connection, relation):
        raise ConfigurationError(
            f"the ledger in schema dispatcher belongs to the outbox {other}, not to {relation}, whose rows have the"
            f" same ids: set DISPATCHER_OUTBOX={other}, or move {relation} to a database of its own"
        )
