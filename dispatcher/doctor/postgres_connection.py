"""The way to PostgreSQL, step by step: name, port, TLS, login, the server itself, what stands between, NOTIFY."""

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
from psycopg import AsyncConnection, IsolationLevel, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from pydantic import SecretStr

from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import variable_names
from dispatcher.doctor.runner import Context, Finding, failed, passed, skipped, unanswered, warned
from dispatcher.install import preflight
from dispatcher.install.session import open_session
from dispatcher.postgres.pool import deadline
from dispatcher.postgres.session import DOCTOR_SETTINGS, apply_settings, is_direct, is_shared

ANSWER_TIMEOUT_SECONDS = 4.0
NOTIFY_TIMEOUT_SECONDS = 2.0
OF_TLS = re.compile(r"\bSSL\b|certificate|\bTLS\b|sslmode", re.IGNORECASE)
WHERE = r'(connection failed: )?connection to server at "[^"]*"( \([^)]*\))?, port \d+ failed: '
DIRECT = "set DISPATCHER_LISTEN_DATABASE_URL to a direct connection"


@asynccontextmanager
async def transaction(context: Context) -> AsyncGenerator[AsyncConnection[Any]]:
    """Lend the connection for one transaction; nothing of ours stays in the session, which may be a pooler's."""
    async with context.lock, deadline(context.connection, ANSWER_TIMEOUT_SECONDS), context.connection.transaction():
        await apply_settings(context.connection, DOCTOR_SETTINGS, local=True)
        yield context.connection


async def fetch_rows(context: Context, statement: str, **parameters: Any) -> list[Any]:
    """Return what the database answers."""
    async with transaction(context) as connection:
        return await (await connection.execute(statement.encode(), parameters or None)).fetchall()


def addresses_of(url: SecretStr) -> Iterator[tuple[str, int]]:
    """Yield every host, or folder of a socket, that libpq would try, with its port; nothing where it decides itself."""
    parameters = conninfo_to_dict(conninfo(url))
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST", ""))
    ports = str(parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")
    for number, host in enumerate(filter(None, hosts.split(","))):
        yield host, int(ports[min(number, len(ports) - 1)] or 5432)


async def dns(context: Context) -> Finding:
    """Resolve the names of DATABASE_URL."""
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
        return passed("no host is named: a socket of this machine")
    if not found:
        return unanswered("; ".join(wrong), "look at the host in DATABASE_URL, and at this machine's name server")
    if wrong:
        return warned("; ".join(wrong + found), "look at the hosts in DATABASE_URL; the others are used meanwhile")
    return passed(", ".join(found))


async def tcp(context: Context) -> Finding:
    """Open and close a connection to the server's port."""
    wrong = list[str]()
    for host, port in addresses_of(context.settings.database_url):
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                if host.startswith("/"):
                    _, writer = await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
                else:
                    _, writer = await asyncio.open_connection(host, port)
        except OSError as error:  # a TimeoutError too
            wrong.append(f"{host}:{port} {error or f'does not answer within {ANSWER_TIMEOUT_SECONDS:g} s'}")
        else:
            writer.close()
            return passed(f"{host}:{port} answers in {(time.perf_counter() - began) * 1000:.1f} ms")
    if not wrong:
        return passed("left to libpq")
    return unanswered(
        "; ".join(wrong), "start PostgreSQL, or look at host and port in DATABASE_URL and at the firewalls between"
    )


async def connect(context: Context, url: SecretStr) -> AsyncConnection[TupleRow]:
    """Open a session that ends with the examination; we hang up then, a goodbye could wait for a peer that is gone."""
    connection = await AsyncConnection.connect(
        conninfo(url, application_name="dispatcher doctor"), autocommit=True, prepare_threshold=None
    )
    context.exits.callback(connection.pgconn.finish)
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    return connection


async def tls(context: Context) -> Finding:
    """Connect as `run` does, and look whether it was encrypted. That we are not let in is for the next check to say."""
    mode = str(conninfo_to_dict(conninfo(context.settings.database_url)).get("sslmode") or "prefer")
    mode = os.environ.get("PGSSLMODE", mode) if mode == "prefer" else mode
    try:
        context.connection = await connect(context, context.settings.database_url)
    except psycopg.errors.ConnectionTimeout:
        return unanswered(
            "the port is open, but nobody says a word there", "look whether that is PostgreSQL, and whether it hangs"
        )
    except psycopg.OperationalError as error:
        if OF_TLS.search(libpq_message(error)):
            return failed(
                f"sslmode={mode}: {libpq_message(error)}",
                "give DATABASE_URL the sslmode and sslrootcert that fit the server; sslmode=disable where the way is"
                " private",
            )
        context.refusal = libpq_message(error)
        return passed(f"sslmode={mode}")
    encrypted = context.connection.pgconn.ssl_in_use
    return passed(f"sslmode={mode}: {'encrypted' if encrypted else 'not encrypted'}")


async def auth(context: Context) -> Finding:
    """Say whether we were let in, and where."""
    if context.refusal is not None:
        return failed(context.refusal, "look at user, password and database in DATABASE_URL, and at the server's log")
    info = context.connection.info
    return passed(f"role {info.user} in database {info.dbname}")


def libpq_message(error: psycopg.Error) -> str:
    """Return libpq's words in one line, without those on where it tried, which come with every one."""
    words = re.sub(WHERE, "", " ".join(str(error).split()))
    return words.removeprefix("FATAL: ")


async def server(context: Context) -> Finding:
    """Look whether the server is new enough and takes writes."""
    async with transaction(context) as connection:
        await preflight.check_server(connection)
        cursor = await connection.execute("select current_setting('transaction_read_only')")
        [read_only] = await cursor.fetchone() or ["off"]
    version = context.connection.info.parameter_status("server_version")
    if read_only == "on":
        return failed(
            f"PostgreSQL {version}, read-only", "give the primary's URL, or switch default_transaction_read_only off"
        )
    return passed(f"PostgreSQL {version}, takes writes")


async def pooler(context: Context) -> Finding:
    """Compare the backend we were told at login with the one we talk to: a pooler makes the former up."""
    async with transaction(context) as connection:
        direct = await is_direct(connection)
    if direct:
        return passed("none: a direct connection")
    shared = await shares(context, context.connection, context.settings.database_url)
    mode = "in transaction mode" if shared else "in session mode"
    if shared and context.settings.listen_database_url is None:
        return warned(f"a pooler {mode}, also for LISTEN", DIRECT)
    return passed(f"a pooler {mode}" + ("; LISTEN has a URL of its own" if shared else ""))


async def shares(context: Context, connection: AsyncConnection[Any], url: SecretStr) -> bool:
    """Return whether a pooler gives the session to others between two statements."""
    async with context.lock, deadline(connection, ANSWER_TIMEOUT_SECONDS):
        return await is_shared(connection, partial(open_session, url.get_secret_value()))


async def notify(context: Context) -> Finding:
    """Listen where `run` listens, notify where it writes: the word has to arrive."""
    settings = context.settings
    if settings.notify_mode == "off":
        return skipped("because DISPATCHER_NOTIFY_MODE is off: nobody listens")
    try:
        listener = await connect(context, settings.listen_url)
    except psycopg.OperationalError as error:
        name = variable_names("listen_database_url" if settings.listen_database_url else "database_url")[0]
        return unanswered(f"{name}: {libpq_message(error)}", f"give {name} a direct connection that lets us in")
    if await shares(context, listener, settings.listen_url):  # a LISTEN would stay with a session that is not ours
        return failed("a pooler in transaction mode forgets LISTEN, so commits wake nobody and run polls", DIRECT)
    channel = f"dispatcher_doctor_{uuid4().hex}"
    async with deadline(listener, ANSWER_TIMEOUT_SECONDS):
        await listener.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    began = time.perf_counter()
    await fetch_rows(context, "select pg_notify(%(channel)s, '')", channel=channel)
    with contextlib.suppress(psycopg.OperationalError):  # a pooler hangs up on us when it meets a NOTIFY
        async for _ in listener.notifies(timeout=NOTIFY_TIMEOUT_SECONDS, stop_after=1):
            return passed(f"heard after {(time.perf_counter() - began) * 1000:.1f} ms")
    return failed(f"not heard within {NOTIFY_TIMEOUT_SECONDS:g} s, so commits wake nobody and run polls", DIRECT)
