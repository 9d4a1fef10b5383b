"""Array parameters arrive as they were, whatever their elements contain, and cost less than psycopg's own."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from dispatcher.models.notification import RecipientState, Status
from dispatcher.postgres.array_literals import ArrayLiteral
from dispatcher.postgres.pool import borrow_connection
from tests.support.outbox_fixture import OutboxFixture

AWKWARD = [
    "",
    "NULL",
    "null",
    " ",
    "a b",
    "{",
    "}",
    ",",
    '"',
    "\\",
    "\\\\",
    '\\"',
    '","',
    "'",
    "\n",
    "\u2003",
    "é",
    "𝄞",
]
TEXTS = st.lists(st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=8)
OURS, PSYCOPG = ArrayLiteral(list), Transformer()


def read_array(text: str) -> list[str | None]:
    """Return the elements of an array literal of text as psycopg's loader reads them."""
    loader = PSYCOPG.get_loader(PSYCOPG.adapters.types["text"].array_oid, psycopg.pq.Format.TEXT)
    return loader.load(text.encode())


@given(TEXTS)
def test_texts_are_read_back_as_they_were(texts: list[str | None]) -> None:
    assert read_array(OURS.dump(texts).decode()) == texts


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", AWKWARD),
        ("text", [*AWKWARD, None]),
        ("text", []),
        ("text", [None, None]),
        ("bigint", [1, 2**62, -5]),
        ("bigint", [None, 7, None]),
        ("boolean", [True, False, None]),
        ("double precision", [0.5, float("inf"), None]),
        ("interval", [timedelta(days=-1, seconds=3), None, timedelta(microseconds=1)]),
        ("timestamptz", [datetime(2026, 2, 3, 4, 5, 6, 7, UTC), None]),
        ("uuid", [UUID(int=7), None]),
        ("text", [Status.SENT, RecipientState.ACCEPTED]),
    ],
)
async def test_array_arrives_as_it_was(outbox_fixture: OutboxFixture, kind: str, values: list[Any]) -> None:
    async with borrow_connection(outbox_fixture.pool) as connection:
        cursor = await connection.execute(f"select %s::{kind}[]".encode(), [values])
        assert await cursor.fetchone() == (values,)


async def test_array_beside_a_column_takes_its_type(outbox_fixture: OutboxFixture) -> None:
    row = await outbox_fixture.notify()
    async with borrow_connection(outbox_fixture.pool) as connection:
        cursor = await connection.execute("select id from notify.ent_notification where id = any(%s)", [[row, row + 1]])
        assert await cursor.fetchall() == [(row,)]


@pytest.mark.parametrize("values", [["a\x00b"], ["a", "\x00"], [None, "\x00"]])
def test_nul_in_a_text_is_refused_before_it_is_sent(values: list[str | None]) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        OURS.dump(values)


def test_arrays_of_a_batch_cost_less_than_a_third_of_psycopgs() -> None:
    columns: list[list[Any]] = [
        list(range(500)),
        [f"recipient {number}" for number in range(500)],
        ["accepted"] * 500,
        [1] * 500,
    ]

    def psycopgs() -> None:
        for column in columns:
            PSYCOPG.dump_sequence([column], [PyFormat.AUTO])

    def ours() -> None:
        for column in columns:
            OURS.dump(column)

    def seconds(dump: Any) -> float:
        begun = time.process_time()
        for _ in range(20):
            dump()
        return time.process_time() - begun

    ratios = sorted(seconds(ours) / seconds(psycopgs) for _ in range(7))
    assert ratios[3] < 1 / 3, ratios
