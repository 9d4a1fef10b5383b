"""How we are connected to PostgreSQL: a pool for statements, a connection of its own for LISTEN.

Every session of the pool runs in autocommit with pinned settings, so neither a role's nor a database's defaults change
what a statement means.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any, LiteralString, cast

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from dispatcher.errors import ConfigurationError, Unreachable

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]

SESSION = {
    # Our own status writes must not ring our own bell.
    "dispatcher.quiet": "on",
    # Where row-level security would hide rows, an error is better than silence.
    "row_security": "off",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "search_path": "pg_catalog, pg_temp",
    # Our statements are few and meant for our indexes: planning each anew would cost more than running it, and a plan
    # made while a table was small must not scan it when it is large.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # only plain index scans let later ones skip dead entries
    "jit": "off",
}
CONNECT_SECONDS = 10
LEDGER = ("installation", "delivery", "recipient", "node")
"""The tables of our own that a running dispatcher uses."""


async def configure(connection: AsyncConnection[TupleRow]) -> None:
    """Pin a new session's settings."""
    await connection.execute(
        "select set_config(name, value, false) from unnest(%s::text[], %s::text[]) as setting (name, value)",
        [list(SESSION.keys()), list(SESSION.values())],
    )


async def open_pool(conninfo: str, *, size: int = 8) -> Pool:
    """Open the pool; raise `Unreachable` with the server's own words when nothing answers."""
    pool = Pool(
        conninfo,
        min_size=2,
        max_size=size,
        kwargs={"autocommit": True},
        configure=configure,
        open=False,
        timeout=CONNECT_SECONDS,
        reconnect_timeout=0,  # the loops above retry with their own backoff
    )
    await probe(conninfo)
    await pool.open()
    return pool


async def probe(conninfo: str) -> None:
    """Connect once, because the pool would only say that it waited."""
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unreachable(
            f"DATABASE_URL: PostgreSQL does not let us in: {reason}. Check host, port, password and that it runs."
        ) from error
    await connection.close()


def query(name: LiteralString, **parts: sql.Composable) -> bytes:
    """Return the statement in queries/`name`.sql with its identifiers filled in, ready to be prepared."""
    text = resources.files("dispatcher").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(cast("LiteralString", text)).format(**parts).as_bytes()


@dataclass(frozen=True, slots=True)
class StatusColumn:
    """The outbox's status column: its type as the catalogue spells it, and the labels where that is an enum."""

    type: str
    labels: frozenset[str]


async def check_installed(pool: Pool, relation: str) -> StatusColumn:
    """Return what the outbox's status can hold; raise `ConfigurationError` when the table or our own are missing."""
    statement = """
        select to_regclass(%(relation)s) is not null,
          array(select name from unnest(%(ledger)s::text[]) as name where to_regclass('dispatcher.' || name) is null),
          (select format_type(atttypid, null) from pg_attribute
           where attrelid = to_regclass(%(relation)s) and attname = 'notification_status'),
          array(select enumlabel::text from pg_enum join pg_attribute on enumtypid = atttypid
                where attrelid = to_regclass(%(relation)s) and attname = 'notification_status')
    """
    async with pool.connection() as connection:
        row: Any = await (
            await connection.execute(statement, {"relation": relation, "ledger": list(LEDGER)})
        ).fetchone()
    outbox, missing, status_type, labels = row
    if not outbox or status_type is None:
        raise ConfigurationError(
            f"{relation} does not exist or is no outbox; set DISPATCHER_OUTBOX=schema.table to the notifications' table"
        )
    if missing:
        raise ConfigurationError(
            f"this database is not prepared, schema dispatcher lacks {', '.join(missing)}; run: dispatcher db install"
        )
    return StatusColumn(status_type, frozenset(labels))


LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
"""What a lost or refused connection raises: wait and try again."""
