"""The installer's one connection: opened, pinned down, alone with the installation, and its errors in words.

Nothing here waits for ever, and nobody waits long for us.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import psycopg
from psycopg import errors, sql

from dispatcher.config.conninfo import conninfo, masked
from dispatcher.install.options import Options, Say
from dispatcher.models.errors import ConfigurationError, Unreachable

Connection = psycopg.AsyncConnection[tuple[object, ...]]

ADVISORY_LOCK = 0x0D15_9A7C_4E50  # advisory, one per database
BACKEND = "select pg_catalog.pg_backend_pid()"
# Quiet: an installer must not wake anybody. The connection check ends our backend when we are killed while it waits, so
# that the next installer gets its turn.
SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "1s",
    "client_min_messages": "warning",
    "dispatcher.quiet": "on",
}


@asynccontextmanager
async def open_session(url: str) -> AsyncGenerator[Connection]:
    """Open a session as it comes; every error a person can act on leaves it as one of ours."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            conninfo(url, application_name="dispatcher db"), autocommit=True, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot connect to {masked(url)}: {first_line(error)}") from error
    async with connection, explain_errors(url):
        yield connection


@asynccontextmanager
async def connect_exclusive_session(url: str) -> AsyncGenerator[Connection]:
    """Open a session that has our settings and is nobody else's; ConfigurationError where it is shared."""
    async with open_session(url) as connection:
        await refuse_shared(connection, url)
        await pin(connection)
        yield connection


@asynccontextmanager
async def read_only_session(url: str, limit: timedelta) -> AsyncGenerator[Connection]:
    """Open a session for one look, which waits at most `limit` for a lock and leaves nothing behind."""
    async with open_session(url) as connection, connection.transaction(force_rollback=True):
        await pin(connection, local=True)
        await limit_locks(connection, limit, local=True)
        yield connection


async def pin(connection: Connection, *, local: bool = False) -> None:
    """Set what is to hold in the session, or only in this transaction of it."""
    for name, value in SETTINGS.items():
        await connection.execute("select pg_catalog.set_config(%s, %s, %s)", (name, value, local))


async def refuse_shared(connection: Connection, url: str) -> None:
    """Raise ConfigurationError when a pooler gives our session to others between two statements."""
    if await is_shared(connection, url):
        raise ConfigurationError(
            f"{masked(url)} is a pooler in transaction mode, whose sessions are shared with others: set"
            " DISPATCHER_LISTEN_DATABASE_URL to a direct connection, or run what dispatcher db sql prints"
        )


async def is_shared(connection: Connection, url: str) -> bool:
    """Return whether a pooler gives the backend of our session to others between two statements.

    Then somebody who begins a transaction between them can get ours, or we another one.
    """
    ours = await one_value(connection, BACKEND)
    if ours == connection.info.backend_pid:  # a pooler makes up the one we were told
        return False
    async with open_session(url) as other:
        for _ in range(10):
            async with other.transaction():
                theirs = await one_value(other, BACKEND)
                if theirs == ours or await one_value(connection, BACKEND) != ours:
                    return True
    return False


@asynccontextmanager
async def explain_errors(url: str) -> AsyncGenerator[None]:
    """Turn the server's refusals into sentences with a remedy."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"{first_line(error)}: use the role that owns the outbox, or have the right granted"
        ) from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"{masked(url)} did not carry on: {first_line(error)}") from error


@asynccontextmanager
async def exclusive(connection: Connection, options: Options, say: Say) -> AsyncGenerator[None]:
    """Keep every other installer out.

    Asked for again and again instead of waited for: a waiting statement would hold a snapshot, and the other's
    CREATE INDEX CONCURRENTLY would wait for that.
    """
    deadline = time.monotonic() + options.exclusive_timeout.total_seconds()
    told = False
    while not await one_value(connection, "select pg_catalog.pg_try_advisory_lock(%s)", (ADVISORY_LOCK,)):
        holder = await lock_holder(connection)
        if time.monotonic() > deadline:
            raise Unreachable(f"another installer (pid {holder}) does not finish: end it and run this again")
        if not told:
            say(f"waiting for another installer (pid {holder})")
            told = True
        await anyio.sleep(0.1)
    try:
        yield
    finally:
        if not connection.closed:
            with anyio.CancelScope(shield=True):
                await connection.execute("select pg_catalog.pg_advisory_unlock(%s)", (ADVISORY_LOCK,))


async def lock_holder(connection: Connection) -> object:
    """Return the process id of the installer whose turn it is."""
    return await one_value(
        connection,
        "select min(pid) from pg_catalog.pg_locks where locktype = 'advisory' and granted and objsubid = 1"
        " and (classid::bigint << 32) | objid::bigint = %s"
        " and database = (select oid from pg_catalog.pg_database where datname = current_database())",
        (ADVISORY_LOCK,),
    )


async def limit_locks(connection: Connection, limit: timedelta, *, local: bool = False) -> None:
    """Wait at most `limit` for each lock from here on, or until the end of the transaction."""
    milliseconds = str(int(limit.total_seconds() * 1000))
    await connection.execute("select pg_catalog.set_config('lock_timeout', %s, %s)", (milliseconds, local))


async def one_value(connection: Connection, query: str, parameters: tuple[object, ...] = ()) -> object:
    """Return the first column of the only row."""
    cursor = await connection.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    return row[0] if row else None


async def run(connection: Connection, statement: sql.SQL | sql.Composed) -> None:
    """Run SQL of one or more statements."""
    await connection.execute(statement)


async def wait_until_ready(url: str, limit: timedelta) -> None:
    """Return when the database answers a query; Unreachable with the last reason after `limit`."""
    deadline = time.monotonic() + limit.total_seconds()
    pause = 0.1
    while True:
        try:
            async with open_session(url) as connection:
                await connection.execute("select 1")
                return
        except Unreachable:
            if time.monotonic() + pause > deadline:
                raise
        await anyio.sleep(pause)
        pause = min(pause * 2, 2.0)  # 0.1 0.2 0.4 0.8 1.6 2 2 …


def first_line(error: psycopg.Error) -> str:
    """Return what the server said, without its context."""
    return (error.diag.message_primary or str(error)).strip().split("\n")[0]
