"""Session settings, the test for a shared session, and the test for missing tables: each stands here once.

A role, a database or a pooler can have defaults that change the meaning of a statement. Therefore each connection of
ours sets what its statements rely on: in the session if the session is ours alone, else in each transaction.
`tests/postgres/test_session_settings.py` decides for every setting of PostgreSQL whether it has to be set here.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, IsolationLevel, errors, sql

PINNED_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    # How text is read.
    "array_nulls": "on",  # off: NULL in an array parameter would be a text
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    # How values and definitions are written. The installer compares definitions as text.
    "bytea_output": "hex",
    "DateStyle": "ISO",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    # How a transaction begins and ends.
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "synchronous_commit": "on",  # a call is durable in the ledger before it leaves; claims set this to off themselves
    # How long a session of ours may be idle, and a transaction may last. The statements have limits of their own.
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "30s",
    "transaction_timeout": "0",
    # Errors: their effect on the session, and their texts.
    "client_min_messages": "warning",
    "exit_on_error": "off",  # on: a lock timeout would end the session
    "log_parameter_max_length_on_error": "0",  # else an error repeats the values of a row
    # Which rows an index finds. Of a GIN index of the owner any value but 0 finds a random choice.
    "gin_fuzzy_search_limit": "0",
}
"""Of every connection. A setting that the server's version does not have is left out."""

QUERY_SETTINGS = {
    **PINNED_SETTINGS,
    "row_security": "off",  # a policy that would hide rows raises an error instead
}
"""For all statements that read the outbox. The installer leaves out `row_security`: its preflight checks policies."""

POOL_SETTINGS = {
    **QUERY_SETTINGS,
    "dispatcher.quiet": "on",  # our own status writes send no NOTIFY
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    # Our statements are few and made for our indexes. Planning each call anew would cost more than running it, and a
    # plan that was made while a table was small must not scan the table when it is large.
    "plan_cache_mode": "force_generic_plan",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_nestloop": "on",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # only plain index scans let later scans skip dead entries
    "jit": "off",
}
"""Of the pool and of the listening connection."""

OPERATOR_SETTINGS = {
    **QUERY_SETTINGS,
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
    **PINNED_SETTINGS,
    "dispatcher.quiet": "on",  # an installation makes no row due
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # If the installer is killed while it waits, the server notices within a second and frees its lock for the next one.
    "client_connection_check_interval": "1s",
    "default_table_access_method": "heap",  # another method may not be able to update rows
}
"""Of the session of `dispatcher db`. Its lock timeout is an option of the command."""

SET_CONFIG = (
    "select pg_catalog.set_config(name, value, %s)"
    " from unnest(%s::pg_catalog.text[], %s::pg_catalog.text[]) as setting (name, value)"
    # A name with a dot is ours, and unknown until it is set. Another unknown name is one of a newer PostgreSQL.
    " where pg_catalog.strpos(name, '.') > 0 or pg_catalog.current_setting(name, true) is not null"
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


class ReadOnlyServer(errors.ReadOnlySqlTransaction):
    """The server takes no changes: it is a standby. Our sessions override a role's or database's own default."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the server is a standby, which takes no changes ({reason}): DATABASE_URL has to lead to the primary"
        )


async def apply_settings(connection: AsyncConnection[Any], settings: Mapping[str, str], *, local: bool) -> None:
    """Set `settings` in the session, or only in the present transaction if `local`."""
    await connection.execute(SET_CONFIG, [local, list(settings.keys()), list(settings.values())])


async def pin_session(connection: AsyncConnection[Any], settings: Mapping[str, str] = PINNED_SETTINGS) -> bool:
    """Set `settings` in a session that is ours alone. Return whether it is.

    In a session behind a pooler nothing is set, and only how our transactions begin: see `pinned_transaction`.
    """
    if await is_direct(connection):
        await apply_settings(connection, settings, local=False)
        return True
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.set_read_only(False)
    await connection.set_deferrable(False)
    return False


@asynccontextmanager
async def pinned_transaction(
    connection: AsyncConnection[Any], settings: Mapping[str, str], *, force_rollback: bool = False
) -> AsyncGenerator[None]:
    """Run the block in one transaction under `settings`. The session keeps its own.

    `connection` was given to `pin_session` before. Raises ReadOnlyServer at a standby behind a pooler.
    """
    async with AsyncExitStack() as exits:
        try:
            await exits.enter_async_context(connection.transaction(force_rollback=force_rollback))
        except errors.FeatureNotSupported as error:  # BEGIN READ WRITE at a standby
            raise ReadOnlyServer(error.diag.message_primary or str(error)) from error
        await apply_settings(connection, settings, local=True)
        yield


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
            async with pinned_transaction(other, {}):
                if await backend_pid(other) == ours or await backend_pid(connection) != ours:
                    return True
    return False


async def missing_tables(connection: AsyncConnection[Any]) -> list[str]:
    """Return the RUNTIME_TABLES that schema `dispatcher` lacks."""
    statement = sql.SQL("select {}").format(MISSING_TABLES)
    [[missing]] = await (await connection.execute(statement, {"ledger": list(RUNTIME_TABLES)})).fetchall()
    return missing
