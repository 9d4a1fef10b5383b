"""Reads the numbered files of sql/, computes their checksums, and renders them for one outbox.

The placeholders of a file decide its part. A file with `{concurrently}` builds indexes, outside a transaction. A file
with only `{outbox}` creates triggers, which locks the outbox. A file without placeholders concerns only our own schema.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import LiteralString, cast

from psycopg import sql

from dispatcher.config.table_names import OutboxTable, Table

INDEXES = ("new_rows", "scheduled", "processing", "retracted")
SUPERSEDED_INDEXES = ("immediate",)
"""Indexes of earlier versions. An upgrade drops them when all of ours are built."""


class Part(StrEnum):
    """When and how a file runs."""

    LEDGER = "ledger"
    TRIGGERS = "triggers"
    INDEXES = "indexes"


@dataclass(frozen=True)
class File:
    """One file of sql/."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def part(self) -> Part:
        if "{concurrently}" in self.text:
            return Part.INDEXES
        return Part.TRIGGERS if "{outbox}" in self.text else Part.LEDGER

    def render(self, outbox: OutboxTable, *, table: Table | None = None, concurrently: bool = True) -> sql.Composed:
        """Return the file's SQL for `outbox`. `table`: the objects are created on this table, with the same names."""
        return as_sql(self.text).format(
            outbox=(table or outbox).identifier,
            concurrently=sql.SQL("concurrently" if concurrently else ""),
            **{purpose: sql.Identifier(outbox.index(purpose)) for purpose in INDEXES},
        )


@cache
def installer_files() -> tuple[File, ...]:
    """Return the files of an installation, in the order in which they run."""
    return tuple(read_folder("sql"))


@cache
def dev_schema_files() -> tuple[File, ...]:
    """Return the files that create XNovu's schema for local use, in the order in which they run."""
    return tuple(read_folder("sql", "dev"))


def read_folder(*folder: str) -> Iterator[File]:
    """Yield the SQL files of a folder of this package, sorted by name."""
    directory = resources.files("dispatcher.install").joinpath(*folder)
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            yield File(entry.name, entry.read_text(encoding="utf-8"))


def index_statements(outbox: OutboxTable) -> dict[str, sql.Composed]:
    """Return the statement that builds each index of the outbox, by the index's name."""
    statements = [
        File(file.name, f"{text};")
        for file in installer_files()
        if file.part is Part.INDEXES
        for text in file.text.split(";\n")
        if text.strip()
    ]
    return {
        outbox.index(purpose): next(each for each in statements if f"{{{purpose}}}" in each.text).render(outbox)
        for purpose in INDEXES
    }


def superseded_indexes(outbox: OutboxTable) -> list[str]:
    """Return the names of the outbox's indexes that earlier versions built and this one drops."""
    return [outbox.index(purpose) for purpose in SUPERSEDED_INDEXES]


def as_sql(text: str) -> sql.SQL:
    """Return the text of a file of this package as SQL. Never pass text from outside the package."""
    return sql.SQL(cast("LiteralString", text))
