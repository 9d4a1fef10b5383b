"""Session settings, the test for a shared session, and the test for missing tables: each stands here once.

A role, a database or a pooler can have defaults that change the meaning of a statement. Therefore each connection of
ours sets what its statements rely on: in the session if the session is ours alone, else in each transaction.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from psycopg import AsyncConnection, sql

QUERY_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "row_security": "off",  # a policy that would hide rows raises an error instead
}
"""For all statements that read the outbox. The installer leaves out `row_security`: its preflight checks policies."""

TEXT_FORMATS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres"}

POOL_SETTINGS = {
    **QUERY_SETTINGS,
    **TEXT_FORMATS,
    "dispatcher.quiet": "on",  # our own status writes send no NOTIFY
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "idle_session_timeout": "0",
    "synchronous_commit": "on",  # a call is durable in the ledger before it leaves; claims set this to off themselves
    "default_transaction_isolation": "read committed",
    # Our statements are few and made for our indexes. Planning each call anew would cost more than running it, and a
    # plan that was made while a table was small must not scan the table when it is large.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # only plain index scans let later scans skip dead entries
    "jit": "off",
}
"""Of the pool and of the listening connection."""

OPERATOR_SETTINGS = {
    **QUERY_SETTINGS,
    **TEXT_FORMATS,
    "dispatcher.quiet": "off",  # rows that an operator makes due send NOTIFY, as an application's rows do
    "statement_timeout": "30s",
    "lock_timeout": "3s",
    # An operator's questions differ from one to the next and may scan. `web` asks them over the pool, whose settings
    # they replace.
    "plan_cache_mode": "auto",
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
}
"""Of each transaction of an operator's command."""

DOCTOR_SETTINGS = {**QUERY_SETTINGS, "statement_timeout": "4s", "lock_timeout": "2s"}
"""Of each transaction of `dispatcher doctor`."""

INSTALLER_SETTINGS = {
    "search_path": QUERY_SETTINGS["search_path"],
    "dispatcher.quiet": "on",  # an installation makes no row due
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # If the installer is killed while it waits, the server notices within a second and frees its lock for the next one.
    "client_connection_check_interval": "1s",
    "client_min_messages": "warning",
}
"""Of the session of `dispatcher db`. Its lock timeout is an option of the command."""

SET_CONFIG = (
    "select pg_catalog.set_config(name, value, %s)"
    " from unnest(%s::pg_catalog.text[], %s::pg_catalog.text[]) as setting (name, value)"
)
BACKEND_PID = "select pg_catalog.pg_backend_pid()"
PROBES = 10
"""How often `is_shared` compares the backends of two sessions."""

RUNTIME_TABLES = ("installation", "delivery", "recipient", "node")
"""The tables in schema `dispatcher` that a running dispatcher uses."""
MISSING_TABLES = sql.SQL(
    "array(select name from unnest(%(ledger)s::text[]) as name where to_regclass('dispatcher.' || name) is null)"
)
"""An SQL expression: the names of `ledger`, mostly RUNTIME_TABLES, that schema `dispatcher` lacks."""


async def apply_settings(connection: AsyncConnection[Any], settings: Mapping[str, str], *, local: bool) -> None:
    """Set `settings` in the session, or only in the present transaction if `local`."""
    await connection.execute(SET_CONFIG, [local, list(settings.keys()), list(settings.values())])


async def backend_pid(connection: AsyncConnection[Any]) -> int:
    """Return the process id of the server process that runs our statements at this moment."""
    [[pid]] = await (await connection.execute(BACKEND_PID)).fetchall()
    return pid


async def is_direct(connection: AsyncConnection[Any]) -> bool:
    """Return whether no pooler stands between: a pooler invents the process id that it gives us at login."""
    return await backend_pid(connection) == connection.info.backend_pid


async def is_shared(
    connection: AsyncConnection[Any], connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
) -> bool:
    """Return whether a pooler gives the server process of our session to other clients between two statements.

    `connect` opens a second session at the same address. While it is in a transaction, we look whether it got our
    server process, or whether we got another one.
    """
    ours = await backend_pid(connection)
    if ours == connection.info.backend_pid:
        return False
    async with connect() as other:
        for _ in range(PROBES):
            async with other.transaction():
                if await backend_pid(other) == ours or await backend_pid(connection) != ours:
                    return True
    return False


async def missing_tables(connection: AsyncConnection[Any]) -> list[str]:
    """Return the RUNTIME_TABLES that schema `dispatcher` lacks."""
    statement = sql.SQL("select {}").format(MISSING_TABLES)
    [[missing]] = await (await connection.execute(statement, {"ledger": list(RUNTIME_TABLES)})).fetchall()
    return missing
