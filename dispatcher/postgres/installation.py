"""Reads which installation a database holds."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from dispatcher.models.errors import ConfigurationError

INSTALLATION = "select id from dispatcher.installation"


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
