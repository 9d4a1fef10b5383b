"""Reads how large the ledger and the outbox are, each with its indexes. Needs no right on the tables."""

from typing import NamedTuple

from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install.options import DEFAULT, Options
from dispatcher.install.session import read_only_session

SIZES = """
select name, pg_total_relation_size(to_regclass(name)), pg_size_pretty(pg_total_relation_size(to_regclass(name)))
from unnest(%s::text[]) with ordinality as wanted (name, place)
where to_regclass(name) is not null
order by place
"""


class TableSize(NamedTuple):
    """The size of one table with its indexes: in bytes, and as PostgreSQL writes it for people."""

    table: str
    bytes: int
    text: str


async def read_sizes(url: str, options: Options = DEFAULT) -> list[TableSize]:
    """Return the sizes of our two large tables and of the outbox, without the tables that do not exist."""
    names = ["dispatcher.delivery", "dispatcher.recipient", str(parse_outbox_name(options.outbox))]
    async with read_only_session(url, options.lock_timeout) as connection:
        rows = await (await connection.execute(SIZES, [names])).fetchall()
    return [TableSize(str(name), int(str(size)), str(text)) for name, size, text in rows]
