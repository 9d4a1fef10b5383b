"""Finds the rows because of which a statement over many rows fails, so that all other rows go on.

A rule of the owner's table, such as a constraint that is not validated or a trigger that raises, can refuse one row.
PostgreSQL then undoes the statement for all rows. The statement runs again for halves of the rows, down to the culprit.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import psycopg

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[Sequence[Item]], Awaitable[list[Result]]]
"""Runs a statement for items and returns its rows."""

RETRIED_CLASSES = ("08", "53", "57", "58")
"""Classes of SQLSTATEs that are nobody's fault: connection, resources, an operator's intervention, the system."""
RETRIED_CODES = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock and lock time-out: the same statement can succeed a moment later."""
MAX_REFUSED_ROWS = 10
"""A search ends after this number of refused rows. If no other row passed until then, no row is blamed."""


@dataclass(slots=True)
class Halved(Generic[Item, Result]):
    """The results for the rows that passed, the rows that were refused with the errors, and the rows not tried."""

    results: list[Result] = field(default_factory=list[Result])
    refused: list[tuple[Item, psycopg.Error]] = field(default_factory=list[tuple[Item, psycopg.Error]])
    not_tried: list[Item] = field(default_factory=list[Item])


async def do_nothing() -> None:
    """Do nothing."""


def may_be_one_rows_fault(error: psycopg.Error) -> bool:
    """Return whether a statement may have failed because of one of its rows."""
    if error.sqlstate is None:  # psycopg itself could not write a value, or the connection was lost
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] not in RETRIED_CLASSES and error.sqlstate not in RETRIED_CODES


def words_of(error: psycopg.Error) -> str:
    """Return PostgreSQL's message and code, without the detail, which repeats the whole row."""
    message = error.diag.message_primary or str(error)
    return f"{' '.join(message.split())} (SQLSTATE {error.sqlstate})" if error.sqlstate else message


async def run_halving(
    run: Run[Item, Result], items: Sequence[Item], prepare: Callable[[], Awaitable[None]] = do_nothing
) -> Halved[Item, Result]:
    """Run `run` for all items at once; if that fails because of one of them, run `prepare`, and `run` for halves.

    100 items with one culprit take about 16 statements. Raises the error if it is not the fault of single items: it is
    of another kind, or occurs without any item, or MAX_REFUSED_ROWS were refused and none passed.
    """
    found = Halved[Item, Result]()
    try:
        found.results += await run(items)
    except psycopg.Error as error:
        if not may_be_one_rows_fault(error) or await fails_without_items(run):
            raise
        await prepare()
        middle = len(items) // 2
        parts = [items[:middle], items[middle:]] if middle else [items]
        if not any([await run_part(run, part, found) for part in parts]) and len(found.refused) >= MAX_REFUSED_ROWS:
            raise
    return found


async def fails_without_items(run: Run[Item, Result]) -> bool:
    """Return whether the statement fails also without items: a right, a table or a column is missing."""
    try:
        await run(())
    except psycopg.Error:
        return True
    return False


async def run_part(run: Run[Item, Result], part: Sequence[Item], found: Halved[Item, Result]) -> bool:
    """Run `run` for a part, and for its halves if that fails. Return whether any item passed."""
    if len(found.refused) >= MAX_REFUSED_ROWS:
        found.not_tried += part
        return False
    try:
        found.results += await run(part)
    except psycopg.Error as error:
        if not may_be_one_rows_fault(error):
            raise
        if len(part) == 1:
            found.refused.append((part[0], error))
            return False
        middle = len(part) // 2
        passed = [await run_part(run, half, found) for half in (part[:middle], part[middle:])]
        return any(passed)
    return True
