"""The database's numbers: one question at a time, and not more often than is good for it."""

import asyncio
from typing import Any

import pytest
from psycopg import OperationalError
from psycopg.errors import QueryCanceled

from dispatcher.web import backlog_metrics as module
from dispatcher.web.backlog_metrics import BacklogMetrics

ANSWER = {"due": 3, "oldest_age": 1.5, "nodes": [], "rows": {"SENT": 2}, "dead_letters": 1}


class FakeDatabase:
    """Replaces the outbox where a test checks only how often it is queried."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.takes = 0.0
        self.error: Exception | None = None

    async def backlog_stats(self, *, all_rows: bool, **_: Any) -> dict[str, Any]:
        self.asked.append(all_rows)
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return {**ANSWER, **({} if all_rows else {"rows": None, "dead_letters": None})}


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def numbers(database: FakeDatabase) -> BacklogMetrics:
    numbers = BacklogMetrics()
    numbers.outbox = database  # pyright: ignore[reportAttributeAccessIssue]
    return numbers


async def test_hundred_concurrent_readers_make_one_query(numbers: BacklogMetrics, database: FakeDatabase):
    told = await asyncio.gather(*(numbers.read() for _ in range(100)))
    assert database.asked == [False]  # the first answer does not wait for a count
    assert all(each["due"] == 3 for each in told)
    await numbers.read()
    assert len(database.asked) == 1


def samples(numbers: BacklogMetrics) -> dict[str, float]:
    return {sample.name: sample.value for metric in numbers.collect() for sample in metric.samples}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let numbers be old at once."""
    monkeypatch.setattr(module, "MIN_QUERY_SECONDS", 0)
    monkeypatch.setattr(module, "SHARE", 0)


@pytest.mark.usefixtures("hurry")
async def test_old_numbers_are_queried_again(numbers: BacklogMetrics, database: FakeDatabase):
    for _ in range(4):
        await numbers.read()
    assert database.asked == [False, True, False, False]  # and counts every row seldom
    assert numbers.known["rows"] == {"SENT": 2}


async def test_slow_query_runs_less_often(
    numbers: BacklogMetrics, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MIN_QUERY_SECONDS", 0)
    database.takes = 0.05
    for _ in range(5):
        await numbers.read()
        await asyncio.sleep(0.06)
    assert len(database.asked) == 1  # the next one is due after 20 times 0.05 s


async def test_readers_do_not_wait_for_a_silent_database(
    numbers: BacklogMetrics, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "READ_TIMEOUT_SECONDS", 0.05)
    database.takes = 3600
    async with asyncio.timeout(5):
        for _ in range(3):
            assert await numbers.read() == {}
    assert (len(database.asked), numbers.is_stale) == (1, False)
    monkeypatch.setattr(module, "STALE_SECONDS", 0)
    assert numbers.is_stale


@pytest.mark.usefixtures("hurry")
async def test_lost_database_keeps_the_old_numbers_and_marks_them_stale(
    numbers: BacklogMetrics, database: FakeDatabase
):
    await numbers.read()
    assert samples(numbers)["dispatcher_outbox_due_rows"] == 3
    database.error = OperationalError("gone")
    assert (await numbers.read())["due"] == 3
    assert numbers.error == "OperationalError: gone"
    assert samples(numbers) == {"dispatcher_database_up": 0}, "old numbers would look like good ones"
    database.error = None
    await numbers.read()
    assert numbers.error is None


@pytest.mark.usefixtures("hurry")
async def test_too_slow_count_is_left_out_afterwards(numbers: BacklogMetrics, database: FakeDatabase):
    await numbers.read()
    database.error = QueryCanceled("canceling statement due to statement timeout")
    await numbers.read()
    database.error = None
    await numbers.read()
    assert database.asked == [False, True, False]
    assert numbers.error is None


async def test_failed_query_is_repeated_soon(
    numbers: BacklogMetrics, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MIN_QUERY_SECONDS", 0.01)
    database.takes, database.error = 0.1, OperationalError("gone")
    await numbers.read()
    await asyncio.sleep(0.02)
    database.error = None
    assert (await numbers.read())["due"] == 3
