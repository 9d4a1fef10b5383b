"""Delays double up to a cap, and a row's automatic runs end by count or by age, whichever comes first."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.backoff import RETRY_BACKOFF, TEMPORAL_BACKOFF, Backoff, next_run_delay

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BACKOFFS = st.builds(
    Backoff,
    st.timedeltas(timedelta(milliseconds=1), MINUTE),  # nothing may be configured to start slower
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=1)),
)


def test_series_are_as_documented():
    assert [RETRY_BACKOFF.delay(n) / MINUTE for n in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [TEMPORAL_BACKOFF.delay(n).total_seconds() for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]


@given(BACKOFFS, st.integers(-5, 10**9))
def test_delay_is_bounded_and_never_shrinks(backoff: Backoff, failures: int):
    assert min(backoff.first, backoff.cap) <= backoff.delay(failures) <= backoff.cap
    assert backoff.delay(failures) <= backoff.delay(failures + 1)


@given(BACKOFFS, st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_half_and_adds_nothing(backoff: Backoff, failures: int, fraction: float):
    whole = backoff.delay(failures)
    rounding = timedelta(microseconds=1)
    assert whole / 2 - rounding <= backoff.jittered(failures, fraction) <= whole


@pytest.mark.parametrize(
    ("attempts", "age", "wait"),
    [
        (1, timedelta(0), MINUTE),
        (7, timedelta(0), HOUR),  # the eighth run is the last one
        (8, timedelta(0), None),
        (9, timedelta(0), None),
        (1, timedelta(hours=6) - MINUTE, MINUTE),  # exactly at the horizon still counts
        (1, timedelta(hours=6) - MINUTE + timedelta(microseconds=1), None),
        (7, timedelta(hours=5), HOUR),
        (7, timedelta(hours=5, seconds=1), None),
    ],
)
def test_retries_end_at_the_last_attempt_or_the_horizon(attempts: int, age: timedelta, wait: timedelta | None):
    assert next_run_delay(attempts, age, max_runs=8, horizon=timedelta(hours=6)) == wait


def test_one_run_allowed_means_no_automatic_retry():
    assert next_run_delay(1, timedelta(0), max_runs=1, horizon=timedelta(hours=6)) is None


@given(st.integers(0, 50), st.timedeltas(timedelta(0), timedelta(days=2)), st.integers(1, 20))
def test_next_run_begins_before_the_horizon(attempts: int, age: timedelta, max_runs: int):
    horizon = timedelta(hours=6)
    wait = next_run_delay(attempts, age, max_runs=max_runs, horizon=horizon)
    if wait is None:
        assert attempts >= max_runs or age + RETRY_BACKOFF.delay(attempts) > horizon
    else:
        assert attempts < max_runs
        assert age + wait <= horizon


@given(st.integers(1, 20), st.timedeltas(timedelta(0), timedelta(days=2)), st.lists(st.floats(0, 3600), max_size=25))
def test_runs_of_a_row_come_ever_later_and_end(max_runs: int, horizon: timedelta, late: list[float]):
    """However late each run begins, there are at most `max_runs`, each wait is as long as the one before or longer, and
    none is planned past the horizon.
    """
    waits: list[timedelta] = []
    age = timedelta(0)
    while (wait := next_run_delay(len(waits) + 1, age, max_runs=max_runs, horizon=horizon)) is not None:
        assert age + wait <= horizon
        age += wait + timedelta(seconds=late.pop() if late else 0)
        waits.append(wait)
    assert waits == sorted(waits)
    assert len(waits) < max_runs
    assert all(MINUTE <= wait <= HOUR for wait in waits)
