"""No sentence of a docstring, a help text, a setting or a page begins like a riddle; questions end with `?`."""

import re
from collections.abc import Iterator

import pytest

from dispatcher.config.settings import Settings
from tests.docs.doc_commands import PAGES
from tests.support.repository import text
from tests.support.source_strings import docstrings, help_texts

OPENINGS = re.compile(r"(What|Whoever|Whatever|Whom|Nobody|So many|So much)\b")


def blocks(page: str) -> Iterator[str]:
    """Yield the paragraphs, list items, headings and table cells of a page, without its code blocks."""
    prose = re.sub(r"^```.*?^```", "\n", text(page), flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|>#]|\d+\.)\s)", prose):
        for cell in re.split(r"(?<!\\)\|", paragraph):
            yield " ".join(cell.split())


def sentences(block: str) -> list[str]:
    """Return the sentences of a block, without what stands before their first letter."""
    return [re.sub(r"^\W+", "", part) for part in re.split(r"(?<=[.!?])[*_)\"]*\s+", block)]


def riddles(block: str) -> list[str]:
    """Return the sentences of a block that begin with one of the openings and are no questions."""
    return [
        sentence
        for sentence in sentences(block)
        if OPENINGS.match(sentence) and not re.search(r"\?[*_)\"]*$", sentence)
    ]


def test_sentences_of_docstrings_do_not_begin_like_riddles():
    assert {place: found for place, written in docstrings() if (found := riddles(" ".join(written.split())))} == {}


def test_sentences_of_help_texts_do_not_begin_like_riddles():
    assert {place: found for place, written in help_texts() if (found := riddles(written))} == {}


def test_sentences_of_settings_do_not_begin_like_riddles():
    described = {name: field.description or "" for name, field in Settings.model_fields.items()}
    assert {name: found for name, written in described.items() if (found := riddles(written))} == {}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_sentences_of_a_page_do_not_begin_like_riddles(page: str):
    assert [sentence for block in blocks(page) for sentence in riddles(block)] == []


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("It waits. What comes next is late.", ["What comes next is late."]),
        ("**Nobody** reads it.", ["Nobody** reads it."]),
        ("What does a lease do?", []),
        ("Read what it says.", []),
    ],
)
def test_riddles_are_found(block: str, found: list[str]):
    assert riddles(block) == found
