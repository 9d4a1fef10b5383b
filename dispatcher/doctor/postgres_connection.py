"""Checks of the path to PostgreSQL, step by step: DNS, TCP, TLS, login, server, pooler, NOTIFY."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from pydantic import SecretStr

from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import variable_names
from dispatcher.doctor.runner import Context, Finding, failed, passed, skipped, unanswered, warned
from dispatcher.install import preflight
from dispatcher.install.session import open_session
from dispatcher.postgres.pool import deadline
from dispatcher.postgres.session import DOCTOR_SETTINGS, is_direct, is_shared, pin_session, pinned_transaction

ANSWER_TIMEOUT_SECONDS = 4.0
NOTIFY_TIMEOUT_SECONDS = 2.0
TLS_ERROR = re.compile(r"\bSSL\b|certificate|\bTLS\b|sslmode", re.IGNORECASE)
ADDRESS_PREFIX = r'(connection failed: )?connection to server at "[^"]*"( \([^)]*\))?, port \d+ failed: '
READ_ONLY_DEFAULT = "select reset_val from pg_settings where name = 'default_transaction_read_only'"
USE_DIRECT_URL = "set DISPATCHER_LISTEN_DATABASE_URL to a direct connection"


@asynccontextmanager
async def transaction(context: Context) -> AsyncGenerator[AsyncConnection[Any]]:
    """Run the block in one transaction of the shared connection.

    Our settings end with the transaction, because the session may be one that a pooler shares.
    """
    async with (
        context.lock,
        deadline(context.connection, ANSWER_TIMEOUT_SECONDS),
        pinned_transaction(context.connection, DOCTOR_SETTINGS),
    ):
        yield context.connection


async def fetch_rows(context: Context, statement: str, **parameters: Any) -> list[Any]:
    """Return the rows of a query."""
    async with transaction(context) as connection:
        return await (await connection.execute(statement.encode(), parameters or None)).fetchall()


def addresses_of(url: SecretStr) -> Iterator[tuple[str, int]]:
    """Yield each host, or socket directory, that libpq would try, with its port; nothing if libpq chooses itself."""
    parameters = conninfo_to_dict(conninfo(url))
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST", ""))
    ports = str(parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")
    for number, host in enumerate(filter(None, hosts.split(","))):
        yield host, int(ports[min(number, len(ports) - 1)] or 5432)


async def dns(context: Context) -> Finding:
    """Check that the host names of DATABASE_URL resolve."""
    found, wrong = list[str](), list[str]()
    for host, port in addresses_of(context.settings.database_url):
        if host.startswith(("/", "@")):
            found.append(f"{host}, a socket of this machine")
            continue
        try:
            addresses = await asyncio.get_running_loop().getaddrinfo(host, port)
        except OSError as error:
            wrong.append(f"{host}: {error.strerror}")
        else:
            found.append(f"{host} is {addresses[0][4][0]}")
    if not found and not wrong:
        return passed("the URL names no host: a socket of this machine")
    if not found:
        return unanswered("; ".join(wrong), "check the host in DATABASE_URL, and this machine's name server")
    if wrong:
        return warned("; ".join(wrong + found), "check the hosts in DATABASE_URL; the other ones are used meanwhile")
    return passed(", ".join(found))


async def tcp(context: Context) -> Finding:
    """Check that a host of DATABASE_URL accepts connections on its port."""
    wrong = list[str]()
    for host, port in addresses_of(context.settings.database_url):
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                if host.startswith("/"):
                    _, writer = await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
                else:
                    _, writer = await asyncio.open_connection(host, port)
        except OSError as error:  # includes TimeoutError
            wrong.append(f"{host}:{port} {error or f'does not answer within {ANSWER_TIMEOUT_SECONDS:g} s'}")
        else:
            writer.close()
            return passed(f"{host}:{port} answers in {(time.perf_counter() - began) * 1000:.1f} ms")
    if not wrong:
        return passed("libpq chooses the host")
    return unanswered(
        "; ".join(wrong), "start PostgreSQL, or check host and port in DATABASE_URL and the firewalls between"
    )


async def connect(context: Context, url: SecretStr) -> AsyncConnection[TupleRow]:
    """Return a session that ends with the checks.

    It is ended by closing the socket, because a regular end could wait for a peer that is gone.
    """
    connection = await AsyncConnection.connect(
        conninfo(url, application_name="dispatcher doctor"), autocommit=True, prepare_threshold=None
    )
    context.exits.callback(close_at_once, connection)
    await pin_session(connection)
    return connection


def close_at_once(connection: AsyncConnection[TupleRow]) -> None:
    """Close the socket of a connection."""
    connection.pgconn.finish()


async def tls(context: Context) -> Finding:
    """Check that a connection like that of `run` works, and report its encryption. `auth` reports a refused login."""
    mode = str(conninfo_to_dict(conninfo(context.settings.database_url)).get("sslmode") or "prefer")
    mode = os.environ.get("PGSSLMODE", mode) if mode == "prefer" else mode
    try:
        context.connection = await connect(context, context.settings.database_url)
    except psycopg.errors.ConnectionTimeout:
        return unanswered(
            "the port is open, but the server sends nothing", "check that it is PostgreSQL, and that it does not hang"
        )
    except psycopg.OperationalError as error:
        if TLS_ERROR.search(libpq_message(error)):
            return failed(
                f"sslmode={mode}: {libpq_message(error)}",
                "set sslmode and sslrootcert in DATABASE_URL to what the server requires; sslmode=disable only on a"
                " private network",
            )
        context.login_error = libpq_message(error)
        return passed(f"sslmode={mode}")
    encrypted = context.connection.pgconn.ssl_in_use
    return passed(f"sslmode={mode}: {'encrypted' if encrypted else 'not encrypted'}")


async def auth(context: Context) -> Finding:
    """Check that PostgreSQL accepted the login; report role and database."""
    if context.login_error is not None:
        return failed(context.login_error, "check user, password and database in DATABASE_URL, and the server's log")
    info = context.connection.info
    return passed(f"role {info.user} in database {info.dbname}")


def libpq_message(error: psycopg.Error) -> str:
    """Return libpq's message in one line, without the address, which it repeats for each attempt."""
    text = re.sub(ADDRESS_PREFIX, "", " ".join(str(error).split()))
    return text.removeprefix("FATAL: ")


async def server(context: Context) -> Finding:
    """Check that the server's version is supported and that it accepts writes."""
    async with transaction(context) as connection:
        await preflight.check_server(connection)
        cursor = await connection.execute(READ_ONLY_DEFAULT)
        [read_only] = await cursor.fetchone() or ["off"]
    version = context.connection.info.parameter_status("server_version")
    if read_only == "on":
        return warned(
            f"PostgreSQL {version}, read-only by default, which dispatcher overrides",
            "find out why default_transaction_read_only is on: some providers set it when the disk is full",
        )
    return passed(f"PostgreSQL {version}, accepts writes")


async def pooler(context: Context) -> Finding:
    """Check for a pooler: the backend pid it reports at login is invented, so it differs from the real one."""
    async with transaction(context) as connection:
        direct = await is_direct(connection)
    if direct:
        return passed("none: a direct connection")
    shared = await is_shared_session(context, context.connection, context.settings.database_url)
    mode = "in transaction mode" if shared else "in session mode"
    if shared and context.settings.listen_database_url is None:
        return warned(f"a pooler {mode}, also for LISTEN", USE_DIRECT_URL)
    return passed(f"a pooler {mode}" + ("; LISTEN has its own URL" if shared else ""))


async def is_shared_session(context: Context, connection: AsyncConnection[Any], url: SecretStr) -> bool:
    """Return whether a pooler gives the session to other clients between two statements."""
    async with context.lock, deadline(connection, ANSWER_TIMEOUT_SECONDS):
        return await is_shared(connection, partial(open_session, url.get_secret_value()))


async def notify(context: Context) -> Finding:
    """Check that a NOTIFY arrives: LISTEN on the connection that `run` listens on, NOTIFY on the one it writes on."""
    settings = context.settings
    if settings.notify_mode == "off":
        return skipped("because DISPATCHER_NOTIFY_MODE is off: dispatcher run does not listen")
    try:
        listener = await connect(context, settings.listen_url)
    except psycopg.OperationalError as error:
        name = variable_names("listen_database_url" if settings.listen_database_url else "database_url")[0]
        return unanswered(
            f"{name}: {libpq_message(error)}", f"set {name} to a direct connection that accepts the login"
        )
    if await is_shared_session(
        context, listener, settings.listen_url
    ):  # LISTEN would stay in a session that belongs to another client next
        return failed(
            "a pooler in transaction mode drops LISTEN, so no NOTIFY arrives and dispatcher run polls", USE_DIRECT_URL
        )
    channel = f"dispatcher_doctor_{uuid4().hex}"
    async with deadline(listener, ANSWER_TIMEOUT_SECONDS):
        await listener.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    began = time.perf_counter()
    await fetch_rows(context, "select pg_notify(%(channel)s, '')", channel=channel)
    with contextlib.suppress(psycopg.OperationalError):  # some poolers close the connection when a NOTIFY arrives
        async for _ in listener.notifies(timeout=NOTIFY_TIMEOUT_SECONDS, stop_after=1):
            return passed(f"received after {(time.perf_counter() - began) * 1000:.1f} ms")
    return failed(f"not received within {NOTIFY_TIMEOUT_SECONDS:g} s, so dispatcher run polls", USE_DIRECT_URL)
