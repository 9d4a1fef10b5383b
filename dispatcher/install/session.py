"""The installer's connection: it is opened, gets its settings, keeps other installers out, and explains its errors.

Each wait here has a time limit. No other session waits longer for us than the lock timeout.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import psycopg
from psycopg import errors, sql

from dispatcher.config.conninfo import conninfo, masked
from dispatcher.install.options import Options, Say
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.postgres.session import INSTALLER_SETTINGS, apply_settings, is_shared, pin_session, pinned_transaction

Connection = psycopg.AsyncConnection[tuple[object, ...]]

ADVISORY_LOCK = 0x0D15_9A7C_4E50
"""The key of the advisory lock that an installer holds. PostgreSQL keeps such locks apart by database."""


@asynccontextmanager
async def open_session(url: str) -> AsyncGenerator[Connection]:
    """Open a session with our pins. An error that a person can act on leaves the block as ours, with its remedy.

    Raises Unreachable if it cannot connect, and the errors of `explain_errors`.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            conninfo(url, application_name="dispatcher db"), autocommit=True, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot connect to {masked(url)}: {first_line(error)}") from error
    async with connection, explain_errors(url):
        await pin_session(connection)
        yield connection


@asynccontextmanager
async def connect_exclusive_session(url: str) -> AsyncGenerator[Connection]:
    """Open a session with INSTALLER_SETTINGS. Raises ConfigurationError if a pooler shares it with other clients."""
    async with open_session(url) as connection:
        await refuse_shared(connection, url)
        await apply_settings(connection, INSTALLER_SETTINGS, local=False)
        yield connection


@asynccontextmanager
async def read_only_session(url: str, limit: timedelta) -> AsyncGenerator[Connection]:
    """Open a session with one transaction, which waits at most `limit` for each lock and is rolled back."""
    async with (
        open_session(url) as connection,
        pinned_transaction(connection, INSTALLER_SETTINGS, force_rollback=True),
    ):
        await limit_locks(connection, limit, local=True)
        yield connection


async def refuse_shared(connection: Connection, url: str) -> None:
    """Raise ConfigurationError if a pooler gives our session to other clients between two statements."""
    if await is_shared(connection, partial(open_session, url)):
        raise ConfigurationError(
            f"{masked(url)} is a pooler in transaction mode, which shares its sessions among clients: set"
            " DISPATCHER_LISTEN_DATABASE_URL to a direct connection, or run what dispatcher db sql prints"
        )


@asynccontextmanager
async def explain_errors(url: str) -> AsyncGenerator[None]:
    """Turn a lost connection into Unreachable, and every other error of PostgreSQL into ConfigurationError."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"{first_line(error)}: use the role that owns the outbox, or grant the right"
        ) from error
    except errors.ReadOnlySqlTransaction as error:
        raise ConfigurationError("this server is a standby, which takes no changes: use the primary's URL") from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"the connection to {masked(url)} failed: {first_line(error)}") from error
    except psycopg.Error as error:
        raise ConfigurationError(
            f"PostgreSQL refused a statement of the installer: {first_line(error)} ({error.sqlstate}). Objects of"
            " schema dispatcher were changed by hand, or belong to another program: dispatcher db status names those"
            " that differ"
        ) from error


@asynccontextmanager
async def exclusive(connection: Connection, options: Options, say: Say) -> AsyncGenerator[None]:
    """Run the block as the only installer of this database. `say` reports once that another installer is running.

    Raises Unreachable if the other installer has not finished after `options.exclusive_timeout`. We try to get the lock
    every 0.1 s instead of waiting in one statement: that statement would hold a snapshot, and CREATE INDEX CONCURRENTLY
    of the other installer would wait for the snapshot.
    """
    deadline = time.monotonic() + options.exclusive_timeout.total_seconds()
    reported = False
    while not await one_value(connection, "select pg_catalog.pg_try_advisory_lock(%s)", (ADVISORY_LOCK,)):
        holder = await lock_holder(connection)
        if time.monotonic() > deadline:
            raise Unreachable(f"another installer (pid {holder}) did not finish: end it and run this again")
        if not reported:
            say(f"waiting for another installer (pid {holder})")
            reported = True
        await anyio.sleep(0.1)
    try:
        yield
    finally:
        if not connection.closed:
            with anyio.CancelScope(shield=True):
                await connection.execute("select pg_catalog.pg_advisory_unlock(%s)", (ADVISORY_LOCK,))


async def lock_holder(connection: Connection) -> object:
    """Return the process id of the session that holds the installers' lock, or None."""
    return await one_value(
        connection,
        "select min(pid) from pg_catalog.pg_locks where locktype = 'advisory' and granted and objsubid = 1"
        " and (classid::bigint << 32) | objid::bigint = %s"
        " and database = (select oid from pg_catalog.pg_database where datname = current_database())",
        (ADVISORY_LOCK,),
    )


async def limit_locks(connection: Connection, limit: timedelta, *, local: bool = False) -> None:
    """Wait at most `limit` for each lock from here on; until the end of the transaction if `local`."""
    milliseconds = str(int(limit.total_seconds() * 1000))
    await apply_settings(connection, {"lock_timeout": milliseconds}, local=local)


async def one_value(connection: Connection, query: str, parameters: tuple[object, ...] = ()) -> object:
    """Return the first column of the first row, or None if there is no row."""
    cursor = await connection.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    return row[0] if row else None


async def run(connection: Connection, statement: sql.SQL | sql.Composed) -> None:
    """Run SQL of one or more statements."""
    await connection.execute(statement)


async def wait_until_ready(url: str, limit: timedelta) -> None:
    """Return as soon as the database answers a query. Raises Unreachable with the last reason after `limit`."""
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
    """Return the first line of the server's message."""
    return (error.diag.message_primary or str(error)).strip().split("\n")[0]
