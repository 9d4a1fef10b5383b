"""Reads which installation a database holds, and whether outbox and database are the installation's own.

A copy of a database carries the installation's id. So the row of `dispatcher.installation` also has the marks of the
database in which it was made, which a copy does not have: the server's system identifier, the oid of the database, and
the oid of the table itself. A physical copy has equal marks; only DISPATCHER_INSTALLATION tells it from the original.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql

from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.pool import CONNECTION_ERRORS
from dispatcher.postgres.statements import load_query

INSTALLATION = "select id, to_jsonb(i) -> 'bound_to' from dispatcher.installation i"
READABLE = """
select from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'dispatcher' and c.relname = 'installation'
  and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
"""
MARKS = """
select jsonb_build_object('database', d.oid::text, 'table', 'dispatcher.installation'::regclass::oid::text)
from pg_database d where d.datname = current_database()
"""
SYSTEM_MARK = "select system_identifier::text from pg_control_system()"

Marks = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Installation:
    """The row of `dispatcher.installation`.

    `id`: part of every identity that we send to Novu. `bound_to`: the marks of its database, as far as they are known.
    `marks`: those of the database in which the row stands now.
    """

    id: UUID
    bound_to: Marks
    marks: Marks

    @property
    def is_elsewhere(self) -> bool:
        """Whether the row was bound to another database. Only marks that both sides know are compared."""
        return any(self.marks.get(name, mark) != mark for name, mark in self.bound_to.items())

    def mismatch(self, configured: UUID | None) -> str | None:
        """Return why nothing may be sent from this database, with the ways out; None if it may.

        `configured`: the setting DISPATCHER_INSTALLATION. If it names this installation, the database is the original.
        """
        if configured == self.id or (configured is None and not self.is_elsewhere):
            return None
        if configured is None:
            return (
                f"this database is a copy of the one of installation {self.id}, or it was moved, so nothing is sent:"
                f" for the original set DISPATCHER_INSTALLATION={self.id} or run dispatcher db adopt; for a copy run"
                " dispatcher db renew"
            )
        return (
            f"this database has installation {self.id}, but DISPATCHER_INSTALLATION is {configured}, so nothing is"
            " sent: if the database is a copy, run dispatcher db renew and set the new id; else correct the setting"
        )


async def read_installation(connection: AsyncConnection[Any]) -> Installation:
    """Return the database's installation. Raises `ConfigurationError` if its row is missing."""
    row = await (await connection.execute(INSTALLATION)).fetchone()
    if row is None:
        raise ConfigurationError("dispatcher.installation has no row: as the tables' owner run dispatcher db upgrade")
    return Installation(row[0], row[1] or {}, await read_marks(connection))


async def read_marks(connection: AsyncConnection[Any]) -> Marks:
    """Return the marks of this database. The system identifier is missing if our role may not read it."""
    [[marks]] = await (await connection.execute(MARKS)).fetchall()
    try:
        async with connection.transaction():  # its failure must not end the transaction around it
            [[system]] = await (await connection.execute(SYSTEM_MARK)).fetchall()
    except CONNECTION_ERRORS:
        raise
    except psycopg.Error:
        return marks
    return {**marks, "system": system}


async def require_own_database(connection: AsyncConnection[Any], configured: UUID | None) -> Installation:
    """Return the installation. Raises `ConfigurationError` if this database is not its own; see `mismatch`."""
    installation = await read_installation(connection)
    if reason := installation.mismatch(configured):
        raise ConfigurationError(reason)
    return installation


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
