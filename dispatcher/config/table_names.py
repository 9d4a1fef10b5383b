"""The name of the outbox as configuration spells it, and the names derived from it.

A part without quotes is used as written, case included. A quoted part follows SQL, so `notify."Ent""Notif"` works.
PostgreSQL cuts names after 63 bytes without an error, so two long names could become one: longer names are refused.
"""

import hashlib
import re
from dataclasses import dataclass

from psycopg import sql

from dispatcher.models.errors import ConfigurationError

CHANNEL = "dispatcher"
MAX_NAME_BYTES = 63
NAME_PART = r'(?:"((?:[^"]|"")+)"|([^".]+))'


@dataclass(frozen=True)
class Table:
    """A schema-qualified table name."""

    schema: str
    name: str

    def __str__(self) -> str:
        """Return the name as SQL text, quoted where it has to be."""
        return ".".join(part if is_plain(part) else quoted(part) for part in (self.schema, self.name))

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class OutboxTable(Table):
    """The user's table, and the names of the objects that belong to it."""

    @property
    def workflow(self) -> Table:
        """Return the table of Novu workflows, in the outbox's schema."""
        return Table(self.schema, f"{self.name}_workflow")

    def index(self, purpose: str) -> str:
        """Return the name of our index on the outbox for `purpose`; if it is too long, cut and with a hash."""
        full = f"{self.name}_dispatcher_{purpose}"
        if len(full.encode()) <= MAX_NAME_BYTES:
            return full
        mark = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        space = MAX_NAME_BYTES - len(f"_{mark}_dispatcher_{purpose}")
        start = self.name.encode()[:space].decode(errors="ignore")
        return f"{start}_{mark}_dispatcher_{purpose}"


def parse_outbox_name(text: str) -> OutboxTable:
    """Return the outbox that `text` names; ConfigurationError if `text` is no possible name."""
    match = re.fullmatch(rf"{NAME_PART}\.{NAME_PART}", text.strip())
    if match is None or "\0" in text:
        raise ConfigurationError(
            f"the outbox {text!r} is not schema.table: set DISPATCHER_OUTBOX to a name like notify.ent_notification"
        )
    quoted_schema, schema, quoted_name, name = match.groups()
    outbox = OutboxTable(schema or quoted_schema.replace('""', '"'), name or quoted_name.replace('""', '"'))
    for part in (outbox.schema, outbox.name, outbox.workflow.name):
        if len(part.encode()) > MAX_NAME_BYTES:
            raise ConfigurationError(
                f"the name {part!r} has {len(part.encode())} bytes, PostgreSQL keeps {MAX_NAME_BYTES}:"
                " shorten the table's name"
            )
    return outbox


def is_plain(part: str) -> bool:
    """Return whether `part` means the same with and without quotes. For display only: key words are not considered."""
    return re.fullmatch(r"[a-z_][a-z0-9_]*", part) is not None


def quoted(part: str) -> str:
    """Return `part` as a quoted identifier."""
    return '"' + part.replace('"', '""') + '"'
