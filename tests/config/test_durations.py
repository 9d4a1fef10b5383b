"""Durations as settings and options spell them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.durations import format_duration, parse_duration


@given(st.integers(0, 10**12))
def test_durations_read_what_they_write(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.text())
def test_any_text_is_a_duration_or_an_error_with_advice(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta()
    except ValueError as error:
        assert str(error).startswith("should be a duration")  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("PT30S", 30), ("P1DT2H", 93600)],
)
def test_durations_are_read_in_common_spellings(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "-5s", "P", "PT", "s", "1 fortnight", "9" * 400 + "d"])
def test_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="10s, 5m, 2h or PT30S"):
        parse_duration(text)
