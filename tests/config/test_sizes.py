"""Sizes: how they are written, and what is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.sizes import Size, parse_size


@given(st.integers(0, 2**40))
def test_sizes_read_what_they_write(size: int) -> None:
    assert parse_size(str(Size(size))) == size


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_size(text) >= 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("524288", 524_288), ("512KiB", 524_288), ("512 kib", 524_288), ("2MB", 2_000_000), ("1.5MiB", 1_572_864)],
)
def test_sizes_are_read_in_common_spellings(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 EB", "1e6", "0x10", "٣", "9" * 40])
def test_malformed_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="should be a size"):
        parse_size(text)


def test_size_has_the_largest_exact_unit() -> None:
    assert [str(Size(n)) for n in (0, 1000, 1024, 512 * 1024, 16 * 1024**2)] == ["0", "1000", "1KiB", "512KiB", "16MiB"]
