"""How we are connected to PostgreSQL: a pool for statements, a connection of its own for LISTEN.

Every statement runs with pinned settings, so neither a role's nor a database's defaults change what it means: pinned to
the session where that is ours alone, to a transaction behind a pooler. No use of the pool waits for ever.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from dispatcher.models.errors import ConfigurationError, Unreachable

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]

SESSION_SETTINGS = {
    # Our own status writes must not ring our own bell.
    "dispatcher.quiet": "on",
    # Where row-level security would hide rows, an error is better than silence.
    "row_security": "off",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "idle_session_timeout": "0",
    "synchronous_commit": "on",  # a call is written down for good before it leaves; claims say "off" themselves
    "default_transaction_isolation": "read committed",
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
SET_CONFIG = "select set_config(name, value, %s) from unnest(%s::text[], %s::text[]) as setting (name, value)"
CONNECT_TIMEOUT_SECONDS = 10
RUNTIME_TABLES = ("installation", "delivery", "recipient", "node")
"""The tables of our own that a running dispatcher uses."""
STATEMENT_DEADLINE_SECONDS = 35.0
"""The server gives up on a statement after 30 s, so this is silence."""

CONNECTION_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)
"""What a lost or refused connection raises, or one to a server that is no longer the primary: wait and try again."""


class StatementTimeout(psycopg.OperationalError):
    """Nothing was heard from PostgreSQL in time, so we hung up."""


@asynccontextmanager
async def borrow_connection(
    pool: Pool, seconds: float = STATEMENT_DEADLINE_SECONDS
) -> AsyncGenerator[AsyncConnection[TupleRow]]:
    """Lend a connection for one statement that has to be done in time."""
    async with pool.connection() as connection:
        try:
            async with deadline(connection, seconds), with_settings(connection):
                yield connection
        except (StatementTimeout, psycopg.errors.ReadOnlySqlTransaction):
            await pool.drain()  # the others go the same way: to nobody, or to a server that is no longer the primary
            raise


@asynccontextmanager
async def deadline(connection: AsyncConnection[TupleRow], seconds: float) -> AsyncGenerator[None]:
    """Hang up when the block takes longer: a path that is silent while TCP stays up would hold us for ever."""
    loop = asyncio.get_running_loop()
    limit = loop.call_later(seconds, abort_socket, connection)
    try:
        yield
    except psycopg.OperationalError as error:
        if loop.time() < limit.when():
            raise
        raise StatementTimeout(f"PostgreSQL was silent for {seconds:g} s; hung up") from error
    finally:
        limit.cancel()


def abort_socket(connection: AsyncConnection[TupleRow]) -> None:
    """Shut the socket under a connection: whoever waits for it gets an error at once.

    Cancelling would not do: psycopg then asks the server to cancel, over a new connection, and waits for an answer.
    """
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),  # it is gone already
        socket.socket(fileno=os.dup(connection.fileno())) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)


async def configure_session(connection: AsyncConnection[TupleRow]) -> None:
    """Pin a new session's settings. Where it is shared with others, leave nothing in it."""
    async with deadline(connection, CONNECT_TIMEOUT_SECONDS):
        cursor = await connection.execute("select pg_backend_pid()")
        if await cursor.fetchone() == (connection.info.backend_pid,):
            await apply_settings(connection, transaction=False)
        else:  # a pooler made up the one we were told
            connection.prepare_threshold = None
            await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)


@asynccontextmanager
async def with_settings(connection: AsyncConnection[TupleRow]) -> AsyncGenerator[None]:
    """Pin the settings for the block where the session is not ours alone: it serves the owner's programs next."""
    if connection.prepare_threshold is not None:
        yield
        return
    async with connection.transaction():
        await apply_settings(connection, transaction=True)
        yield


async def apply_settings(connection: AsyncConnection[TupleRow], *, transaction: bool) -> None:
    """Pin the settings, to the session or to the present transaction."""
    await connection.execute(SET_CONFIG, [transaction, list(SESSION_SETTINGS.keys()), list(SESSION_SETTINGS.values())])


async def open_pool(conninfo: str, *, size: int = 8) -> Pool:
    """Open the pool; raise `Unreachable` with the server's own words when nothing answers."""
    pool = Pool(
        conninfo,
        min_size=2,
        max_size=size,
        kwargs={"autocommit": True},
        configure=configure_session,
        open=False,
        timeout=CONNECT_TIMEOUT_SECONDS,
        reconnect_timeout=0,  # the loops above retry with their own backoff
    )
    await check_connects(conninfo)
    await pool.open()
    return pool


async def check_connects(conninfo: str) -> None:
    """Connect once, because the pool would only say that it waited."""
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unreachable(
            f"DATABASE_URL: PostgreSQL does not let us in: {reason}. Check host, port, password and that it runs."
        ) from error
    await connection.close()


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
    async with borrow_connection(pool) as connection:
        row: Any = await (
            await connection.execute(statement, {"relation": relation, "ledger": list(RUNTIME_TABLES)})
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
