"""The connection pool for statements, and the set-up of a session, which the listening connection uses too.

Each statement runs under POOL_SETTINGS. They are set in the session if it is ours alone, and in each transaction behind
a pooler. Each use of the pool has a time limit.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.postgres.array_literals import ArrayLiteral
from dispatcher.postgres.session import (
    MISSING_TABLES,
    POOL_SETTINGS,
    RUNTIME_TABLES,
    ReadOnlyServer,
    pin_session,
    pinned_transaction,
)

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]
SessionCheck = Callable[[AsyncConnection[TupleRow]], Awaitable[None]]

CONNECT_TIMEOUT_SECONDS = 10
STATEMENT_DEADLINE_SECONDS = 35.0
"""PostgreSQL ends a statement after 30 s (`statement_timeout`). A connection without an answer after 35 s is dead."""

CONNECTION_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ReadOnlySqlTransaction,
    PoolTimeout,
)
"""Errors of a lost or refused connection, or of a server that is no longer the primary. Wait and try again.

LOCK_ERRORS are among them only because psycopg derives them from OperationalError: handle those first.
"""

LOCK_ERRORS = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
"""Another transaction held a lock for too long. The connection is fine. Try again later."""


def lock_reason(error: BaseException) -> str:
    """Return why a statement had to give up waiting for a lock, and the remedy."""
    return f"another transaction holds a lock that we need ({error}); pg_blocking_pids() names it: end it if it is idle"


class StatementTimeout(psycopg.OperationalError):
    """PostgreSQL did not answer in time, so we closed the connection."""


@asynccontextmanager
async def borrow_connection(
    pool: Pool, seconds: float = STATEMENT_DEADLINE_SECONDS
) -> AsyncGenerator[AsyncConnection[TupleRow]]:
    """Lend a connection for one statement, which has `seconds` to finish.

    Raises StatementTimeout after that time, PoolTimeout if no connection is free within 10 s, ReadOnlyServer at a
    standby, and psycopg's errors.
    """
    async with pool.connection() as connection:
        try:
            async with deadline(connection, seconds), with_settings(connection):
                yield connection
        except (StatementTimeout, ReadOnlySqlTransaction) as error:
            await pool.drain()  # the other connections lead to the same server, so replace them all
            if isinstance(error, StatementTimeout | ReadOnlyServer):
                raise
            raise ReadOnlyServer(error.diag.message_primary or str(error)) from error


@asynccontextmanager
async def deadline(connection: AsyncConnection[TupleRow], seconds: float) -> AsyncGenerator[None]:
    """Close the connection if the block takes longer than `seconds`, and raise StatementTimeout.

    A network that drops packets while TCP stays up would otherwise block us for ever.
    """
    loop = asyncio.get_running_loop()
    limit = loop.call_later(seconds, abort_socket, connection)
    try:
        yield
    except psycopg.OperationalError as error:
        if loop.time() < limit.when():
            raise
        raise StatementTimeout(f"PostgreSQL did not answer within {seconds:g} s; closed the connection") from error
    finally:
        limit.cancel()


def abort_socket(connection: AsyncConnection[TupleRow]) -> None:
    """Shut down the socket of a connection. A task that waits for the connection gets an error at once.

    To cancel the task is not enough: psycopg then asks the server to cancel, over a new connection, and waits for an
    answer.
    """
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),  # the connection is closed already
        socket.socket(fileno=os.dup(connection.fileno())) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)


async def configure_session(connection: AsyncConnection[TupleRow]) -> None:
    """Set POOL_SETTINGS in a new session. Leave nothing in the session if a pooler may share it."""
    async with deadline(connection, CONNECT_TIMEOUT_SECONDS):
        if not await pin_session(connection, POOL_SETTINGS):
            connection.prepare_threshold = None  # for `with_settings`, too, this marks a session behind a pooler


@asynccontextmanager
async def with_settings(connection: AsyncConnection[TupleRow]) -> AsyncGenerator[None]:
    """Run the block under POOL_SETTINGS: in one transaction if the session leads through a pooler.

    The session of a pooler may serve the owner's programs next, so no setting may stay in it.
    """
    if connection.prepare_threshold is not None:
        yield
        return
    async with pinned_transaction(connection, POOL_SETTINGS):
        yield


async def open_pool(conninfo: str, *, size: int = 8, check: SessionCheck | None = None) -> Pool:
    """Open a pool of 2 to `size` connections. Raises `Unreachable` with the server's message if it cannot connect.

    `check` is called with each new connection before it is used.
    """

    async def configure(connection: AsyncConnection[TupleRow]) -> None:
        connection.adapters.register_dumper(list, ArrayLiteral)
        await configure_session(connection)
        if check is not None:
            async with deadline(connection, CONNECT_TIMEOUT_SECONDS):
                await check(connection)

    pool = Pool(
        conninfo,
        min_size=2,
        max_size=size,
        kwargs={"autocommit": True},
        configure=configure,
        open=False,
        timeout=CONNECT_TIMEOUT_SECONDS,
        reconnect_timeout=0,  # the loops above retry with their own backoff
    )
    await check_connects(conninfo)
    await pool.open()
    return pool


async def check_connects(conninfo: str) -> None:
    """Connect once and disconnect. Raises `Unreachable` with the server's message, which the pool would not report."""
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unreachable(
            f"DATABASE_URL: PostgreSQL does not let us in: {reason}. Check host, port and password, and that it runs."
        ) from error
    await connection.close()


@dataclass(frozen=True, slots=True)
class StatusColumn:
    """The outbox's status column: its type as the catalogue spells it, and its labels; no labels if it is no enum.

    `reads_version`: whether our role may read `xmin`, the version of a row.
    """

    type: str
    labels: frozenset[str]
    reads_version: bool = True


async def check_installed(pool: Pool, relation: str) -> StatusColumn:
    """Return the type and the labels of the outbox's status column. `relation`: the outbox, as schema.table.

    Raises `ConfigurationError` if the outbox or a table of ours is missing.
    """
    statement = sql.SQL("""
        select to_regclass(%(relation)s) is not null,
          {missing_tables},
          (select format_type(atttypid, null) from pg_attribute
           where attrelid = to_regclass(%(relation)s) and attname = 'notification_status'),
          array(select enumlabel::text from pg_enum join pg_attribute on enumtypid = atttypid
                where attrelid = to_regclass(%(relation)s) and attname = 'notification_status'),
          coalesce(has_column_privilege(to_regclass(%(relation)s), 'xmin', 'SELECT'), false)
    """).format(missing_tables=MISSING_TABLES)
    async with borrow_connection(pool) as connection:
        row: Any = await (
            await connection.execute(statement, {"relation": relation, "ledger": list(RUNTIME_TABLES)})
        ).fetchone()
    outbox, missing, status_type, labels, reads_version = row
    if not outbox or status_type is None:
        raise ConfigurationError(
            f"{relation} does not exist or is no outbox; set DISPATCHER_OUTBOX to the table of notifications"
        )
    if missing:
        raise ConfigurationError(
            f"this database is not prepared: schema dispatcher lacks {', '.join(missing)}; run: dispatcher db install"
        )
    return StatusColumn(status_type, frozenset(labels), reads_version)
