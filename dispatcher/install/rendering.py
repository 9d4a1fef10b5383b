"""The SQL of an installation as text, made without a connection: the statements of `install` and `uninstall`.

The text runs in psql as it is. It has two parts: a transaction, and the statements that must run outside one. Each part
can be rendered alone.
"""

from enum import StrEnum
from typing import LiteralString

from psycopg import sql

from dispatcher.config.table_names import OutboxTable, parse_outbox_name
from dispatcher.install import steps
from dispatcher.install.files import as_sql
from dispatcher.install.options import DEFAULT, Options
from dispatcher.install.session import ADVISORY_LOCK

Statements = list[sql.Composed]
OPENING = """-- One transaction. Writers of the outbox wait for it at most as long as lock_timeout says.
set transaction isolation level read committed, read write;
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
set local default_table_access_method = heap;
set local client_min_messages = warning;
set local lock_timeout = {};
set local dispatcher.quiet = on;
do $$
begin
  if not pg_try_advisory_xact_lock({}) then
    raise exception 'another installer is at work';
  end if;
end
$$;
"""
OUTSIDE = """-- Outside a transaction, one by one; blocks no writer.
set default_transaction_isolation = 'read committed';
set default_transaction_read_only = off;
set standard_conforming_strings = on;
set search_path = pg_catalog, pg_temp;
set client_min_messages = warning;
"""


class Action(StrEnum):
    """The SQL to render."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    UNINSTALL = "uninstall"


class Piece(StrEnum):
    """Which part to render: `transaction` for `psql -1`, `indexes` for psql without it, `all` for both in one text."""

    ALL = "all"
    TRANSACTION = "transaction"
    INDEXES = "indexes"


def render(action: str, options: Options = DEFAULT, piece: str = Piece.ALL) -> str:
    """Return the SQL of `action` for a database in any state. Equal arguments give equal text.

    Raises ValueError for an unknown action or piece, ConfigurationError for an impossible table name.
    """
    outbox = parse_outbox_name(options.outbox)
    if Action(action) is Action.UNINSTALL:
        inside = [*steps.trigger_removal(outbox), *steps.ledger_removal(ledger=options.ledger)]
        return assembled(inside, steps.index_removal(outbox), options, piece)
    return rendered(outbox, None, options, piece)


def rendered(outbox: OutboxTable, found: steps.Differences | None, options: Options, piece: str = Piece.ALL) -> str:
    """Return the SQL that repairs the differences `found`; if None, the SQL that installs everything."""
    indexes = list(steps.index_work(outbox, found).values()) if options.indexes else []
    return assembled(steps.transaction(outbox, found), indexes, options, piece)


def assembled(inside: Statements, outside: Statements, options: Options, piece: str) -> str:
    """Return both parts, or the one that `piece` names, as one text."""
    milliseconds = f"{int(options.lock_timeout.total_seconds() * 1000)}ms"
    opening = as_sql(OPENING).format(sql.Literal(milliseconds), sql.Literal(ADVISORY_LOCK))
    transaction = [opening, *inside] if inside else []
    outside_part = [as_sql(OUTSIDE).format(), *outside] if outside else []
    if piece == Piece.ALL and transaction:
        transaction = [plain("begin;\n"), *transaction, plain("commit;\n")]
    chosen = {Piece.ALL: [*transaction, *outside_part], Piece.TRANSACTION: transaction, Piece.INDEXES: outside_part}
    return "\n".join(statement.as_string().strip() + "\n" for statement in chosen[Piece(piece)])


def plain(text: LiteralString) -> sql.Composed:
    return sql.Composed([sql.SQL(text)])
