"""Checks that the names of our tables in schema dispatcher are ours: another program may have a schema of that name.

Reads only catalogues, before anything is changed. A failed check is one sentence with its remedy.
"""

import re

from dispatcher.install.files import installer_files
from dispatcher.install.session import Connection
from dispatcher.models.errors import ConfigurationError

CREATED = re.compile(r"create table if not exists dispatcher\.(\w+)")
RECORD_COLUMNS = ("name", "checksum", "applied_at")
"""The columns of `dispatcher.migration`, which is read before anything is compared."""

# Objects that have the name of a table of ours, and are not that table: each with the reason.
STRANGE = """
with strange as (
  select c.oid, c.relname::text as name, case
      when c.relkind <> 'r' then 'is ' || coalesce(
        case c.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
          when 'p' then 'a partitioned table' when 'S' then 'a sequence' when 'c' then 'a type' end, 'no table')
      when c.relispartition or exists (select from pg_inherits where c.oid in (inhrelid, inhparent))
        then 'is a partition, inherits or is inherited'
      when c.relpersistence <> 'p' then 'is unlogged, so a crash would empty it'
      when exists (select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e')
        then 'belongs to an extension'
      when c.relname = 'migration' and (
        select count(*) from pg_attribute where attrelid = c.oid and attname = any(%s) and not attisdropped) < %s
        then 'has other columns'
    end as reason
  from pg_class as c where c.relnamespace = to_regnamespace('dispatcher')
  union all
  select t.oid, t.typname::text, 'is a type' from pg_type as t
  where t.typnamespace = to_regnamespace('dispatcher') and t.typrelid = 0
)
select name, reason from strange where name = any(%s) and reason is not null order by name
"""
WITHOUT_KEY = """
select relname::text from pg_class as c
where relnamespace = to_regnamespace('dispatcher') and relkind = 'r' and relname = any(%s)
  and not exists (select from pg_constraint where conrelid = c.oid and contype = 'p')
order by 1
"""


def table_names() -> list[str]:
    """Return the names of the tables that our files create."""
    return [name for file in installer_files() for name in CREATED.findall(file.text)]


async def check_ledger(connection: Connection) -> None:
    """Raise ConfigurationError if something that is not ours has the name of a table of ours."""
    parameters = (list(RECORD_COLUMNS), len(RECORD_COLUMNS), table_names())
    rows = await (await connection.execute(STRANGE, parameters)).fetchall()
    if rows:
        raise ConfigurationError(
            f"{', '.join(f'dispatcher.{name} {reason}' for name, reason in rows)}, so it is not the table that"
            " dispatcher db install creates: if another program uses schema dispatcher, give that schema another name;"
            " if it was changed by hand, restore our table from a backup"
        )


async def check_keys(connection: Connection) -> None:
    """Raise ConfigurationError if a table of ours lacks its primary key. Writing to it would write rows twice."""
    rows = await (await connection.execute(WITHOUT_KEY, (table_names(),))).fetchall()
    if rows:
        raise ConfigurationError(
            f"{', '.join(f'dispatcher.{name}' for (name,) in rows)} lacks its primary key, so nothing was changed:"
            " remove doubled rows, then add the key that dispatcher db sql shows"
        )
