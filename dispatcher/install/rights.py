"""Checks the rights of the installer's role before anything is changed.

Comparing needs fewer rights than changing. So a role that may only compare can still learn that nothing differs.
"""

from dataclasses import dataclass

from dispatcher.config.table_names import OutboxTable
from dispatcher.install.session import Connection
from dispatcher.models.errors import ConfigurationError

RIGHTS = """
select
  current_user::text,
  has_schema_privilege(c.relnamespace, 'USAGE'),
  has_table_privilege(c.oid, 'SELECT'),
  has_database_privilege(current_database(), 'TEMPORARY'),
  coalesce((select has_schema_privilege(oid, 'USAGE') from pg_namespace where nspname = 'dispatcher'), true),
  coalesce((select pg_has_role(nspowner, 'USAGE') from pg_namespace where nspname = 'dispatcher'),
    has_database_privilege(current_database(), 'CREATE')),
  has_table_privilege(c.oid, 'TRIGGER'),
  pg_has_role(c.relowner, 'USAGE'),
  has_schema_privilege(c.relnamespace, 'CREATE')
from pg_class as c where c.oid = %s
"""


@dataclass(frozen=True)
class MissingRights:
    """The rights that a role lacks: to compare (`to_look`), and to install (`to_change`)."""

    role: str
    to_look: list[str]
    to_change: list[str]

    def require_look(self) -> None:
        if self.to_look:
            self.refuse(self.to_look)

    def require_all(self) -> None:
        if self.to_look or self.to_change:
            self.refuse(self.to_look + self.to_change)

    def refuse(self, needs: list[str]) -> None:
        raise ConfigurationError(
            f"role {self.role} needs {', '.join(needs)}: grant these rights, or use the outbox's owner"
        )


async def lacking_rights(connection: Connection, outbox: OutboxTable, oid: int, *, indexes: bool) -> MissingRights:
    """Return the rights that the role of this session lacks. `oid`: the outbox's; `indexes`: whether to build indexes.

    Raises ConfigurationError if the outbox no longer exists.
    """
    row = await (await connection.execute(RIGHTS, (oid,))).fetchone()
    if row is None:
        raise ConfigurationError(f"table {outbox} has just been dropped: run this again")
    role, use, select, temporary, look, own_schema, trigger, own_outbox, create = row
    database = connection.info.dbname
    to_look = {
        f"USAGE on schema {outbox.schema}": use,
        f"SELECT on {outbox}": select,
        f"TEMPORARY on database {database}": temporary,
        "USAGE on schema dispatcher": look,
    }
    to_change = {
        f"CREATE on database {database} (or to own schema dispatcher)": own_schema,
        f"TRIGGER on {outbox}": trigger,
        f"to own {outbox} (or --no-index)": own_outbox or not indexes,
        f"CREATE on schema {outbox.schema} (or --no-index)": create or not indexes,
    }
    return MissingRights(str(role), not_given(to_look), not_given(to_change))


def not_given(rights: dict[str, object]) -> list[str]:
    return [right for right, given in rights.items() if not given]
