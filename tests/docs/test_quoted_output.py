"""Every log event and every message that a page quotes exists in the package."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.docs.doc_commands import PAGES
from tests.docs.test_plain_english import blocks
from tests.support.repository import ROOT, text
from tests.support.source_strings import log_events, strings_in, trees

GENERATED = {"docs/commands.md", "docs/settings.md", "docs/metrics.md"}
"""Written from the code, so that they cannot differ from it."""
QUOTING = [page for page in PAGES if page not in {*GENERATED, "docs/faults.md"}]

NOT_LOGGED_BY_NAME = {"library": "the event of every line that a library logs"}
NOT_AN_EVENT = {"broken": "a key of /status, mentioned beside the log"}
NOT_OUR_OUTPUT = {"How the schema changes": "a section of CONTRIBUTING.md"}

COMMAND_MENTIONS = re.compile(
    r"\bevents? `?(\w+_\w+)|look for `?(\w+_\w+)|(\w+_\w+)`? (?:is )?in (?:its|their|the) logs?"
)
LOG_MENTIONS = re.compile(r"`(\w+)`[^`|.]{0,40}?in\s+the\s+log(?! \()|in\s+the\s+log\s+\(`(\w+)`|log\s+\(`(\w+)`")


def events_of_the_table() -> Iterator[str]:
    """Yield each event of the first column of the tables of docs/log-events.md."""
    for line in text("docs/log-events.md").splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`(\w+)`", line.split("|")[1])


def mentioned_events(written: str) -> set[str]:
    """Return the words in backticks which a text says are in the log."""
    return {next(filter(None, match.groups())) for match in LOG_MENTIONS.finditer(written)}


def quotations(page: str) -> Iterator[str]:
    """Yield what a page puts into double quotes outside of code."""
    for block in blocks(page):
        yield from re.findall(r'"([^"]+)"', re.sub(r"`[^`]*`", "", block))


def fixed_parts(quotation: str) -> list[str]:
    """Return the parts of a message without its placeholders: words in capitals, and `…`."""
    parts = re.split(r"\b[A-Z]{2,}\b|…", quotation)
    return [part.strip() for part in parts if part.strip()]


def written_strings() -> list[str]:
    """Return every string of the package, and the titles of the Grafana dashboards."""
    ours = [" ".join(string.split()) for tree in trees().values() for string in strings_in(tree)]
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "ops").rglob("*.json")]
    return ours + [panel["title"] for dashboard in dashboards for panel in dashboard.get("panels", [])]


def test_every_event_of_the_log_page_is_logged():
    events = set(events_of_the_table())
    assert len(events) > 30
    assert events - log_events() <= NOT_LOGGED_BY_NAME.keys()


def test_every_logged_event_is_on_the_log_page():
    assert log_events() - set(events_of_the_table()) == set()


@pytest.mark.parametrize("page", QUOTING)
def test_events_that_a_page_looks_for_are_logged(page: str):
    assert mentioned_events(text(page)) - log_events() <= {*NOT_LOGGED_BY_NAME, *NOT_AN_EVENT}


def test_events_that_commands_name_are_logged():
    written = " ".join(
        string
        for path, tree in trees().items()
        if path.parts[1] in ("cli", "doctor")
        for string in strings_in(tree)
        if not string.isidentifier()
    )
    named = {next(filter(None, match.groups())) for match in COMMAND_MENTIONS.finditer(written)}
    assert "not_listening" in named
    assert named - log_events() == set()


@pytest.mark.parametrize("page", QUOTING)
def test_messages_that_a_page_quotes_exist(page: str):
    strings = written_strings()
    unknown = [
        quotation
        for quotation in quotations(page)
        if quotation not in NOT_OUR_OUTPUT
        and not all(any(part in string for string in strings) for part in fixed_parts(quotation))
    ]
    assert unknown == []


def test_quotation_is_split_at_its_placeholders():
    assert fixed_parts("role NAME needs … rights") == ["role", "needs", "rights"]


def test_mentioned_event_is_found():
    assert mentioned_events("`novu_gate_shut` in the log, and in the log (`outage_began`)") == {
        "novu_gate_shut",
        "outage_began",
    }
