"""Connects a command to `OperatorQueries`, and turns PostgreSQL's errors into sentences with a remedy."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from dispatcher.cli.options import options_from, url_from
from dispatcher.config.conninfo import conninfo, masked
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install.session import first_line
from dispatcher.models.errors import CheckFailed, ConfigurationError, Unreachable
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.pool import STATEMENT_DEADLINE_SECONDS, deadline
from dispatcher.postgres.session import pin_session
from dispatcher.postgres.statements import TableNames


@asynccontextmanager
async def open_operator(database_url: str | None, outbox: str | None) -> AsyncGenerator[OperatorQueries]:
    """Yield prepared queries on one connection to the database and outbox that options or environment name.

    Raises Unreachable, ConfigurationError or CheckFailed, also for errors inside the block; see `explain_errors`.
    """
    url = url_from(database_url)
    table = parse_outbox_name(options_from(outbox).outbox)
    try:
        connection = await AsyncConnection.connect(
            conninfo(url, application_name="dispatcher cli"), autocommit=True, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot connect to {masked(url)}: {first_line(error)}") from error
    async with connection:

        @asynccontextmanager
        async def connect() -> AsyncGenerator[AsyncConnection[TupleRow]]:
            async with deadline(connection, STATEMENT_DEADLINE_SECONDS):
                yield connection

        with explain_errors(url):
            await pin_session(connection)
            relations = TableNames(table.identifier, table.workflow.identifier)
            operator = OperatorQueries(connect, relations, actor=current_actor())
            await operator.prepare()
            yield operator


@contextlib.contextmanager
def explain_errors(url: str):  # noqa: ANN201  (a generator that yields None)
    """Turn PostgreSQL's errors in the block into a `DispatcherError` that names the remedy."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        if "row-level security" in str(error):
            raise ConfigurationError(f"{first_line(error)}: use a role with BYPASSRLS, or the tables' owner") from error
        raise ConfigurationError(
            f"{first_line(error)}: as the tables' owner, run the output of dispatcher db sql grants --operator --role"
            " NAME"
        ) from error
    except errors.QueryCanceled as error:
        raise CheckFailed(f"{first_line(error)}: select fewer rows, for example with --since or --status") from error
    except errors.LockNotAvailable as error:
        raise CheckFailed(f"{first_line(error)}: another transaction holds the lock; run this again") from error
    except errors.ReadOnlySqlTransaction as error:
        raise ConfigurationError(f"{first_line(error)}: give the primary's URL, and a role that may write") from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"lost the connection to {masked(url)}: {first_line(error)}") from error
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError) as error:
        raise ConfigurationError(f"PostgreSQL refused: {first_line(error)}; see dispatcher db status") from error


def current_actor() -> str | None:
    """Return `user@host` for the record of actions, or None if one is unknown. This grants no right: the role does."""
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return None  # a container's user need not have a name
