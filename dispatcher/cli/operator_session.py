"""The way from a command to `Operations`: one connection, and every error a person can act on in words."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, IsolationLevel, errors
from psycopg.rows import TupleRow

from dispatcher.cli.options import options_from, url_from
from dispatcher.config.conninfo import conninfo, masked
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install.session import first_line
from dispatcher.models.errors import CheckFailed, ConfigurationError, Unreachable
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import STATEMENT_DEADLINE_SECONDS, deadline
from dispatcher.postgres.statements import TableNames


@asynccontextmanager
async def open_operator(database_url: str | None, outbox: str | None) -> AsyncGenerator[OperatorQueries]:
    """Open the operations on the database and the outbox that options or environment name."""
    url = url_from(database_url)
    table = parse_outbox_name(options_from(outbox).outbox)
    try:
        connection = await AsyncConnection.connect(
            conninfo(url, application_name="dispatcher cli"), autocommit=True, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot connect to {masked(url)}: {first_line(error)}") from error
    async with connection:
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)

        @asynccontextmanager
        async def lend() -> AsyncGenerator[AsyncConnection[TupleRow]]:
            async with deadline(connection, STATEMENT_DEADLINE_SECONDS):
                yield connection

        with explain_errors(url):
            desk = OperatorQueries(lend, TableNames(table.identifier, table.workflow.identifier), actor=current_actor())
            await desk.prepare()
            yield desk


@contextlib.contextmanager
def explain_errors(url: str):  # noqa: ANN201  (a generator of nothing)
    """Turn the server's refusals into sentences with a remedy."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        if "row-level security" in str(error):
            raise ConfigurationError(f"{first_line(error)}: use a role with BYPASSRLS, or the tables' owner") from error
        raise ConfigurationError(
            f"{first_line(error)}: as the tables' owner run what dispatcher db sql grants --operator --role NAME prints"
        ) from error
    except errors.QueryCanceled as error:
        raise CheckFailed(f"{first_line(error)}: ask for less, with --since or --status for example") from error
    except errors.LockNotAvailable as error:
        raise CheckFailed(f"{first_line(error)}: another transaction is in the way; run this again") from error
    except errors.ReadOnlySqlTransaction as error:
        raise ConfigurationError(f"{first_line(error)}: give the primary's URL, and a role that may write") from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"{masked(url)} did not carry on: {first_line(error)}") from error
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError) as error:
        raise ConfigurationError(f"PostgreSQL refused: {first_line(error)}; see dispatcher db status") from error


def current_actor() -> str | None:
    """Return who sits at this machine, for the record; whoever it is, the role was let in."""
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return None  # a container's user need not have a name
