"""README and docs/, read for what they tell a person to type."""

import re

from tests.support.repository import ROOT, text

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def consoles(page: str) -> list[str]:
    """Return the lines that a page has typed into a console."""
    blocks = re.findall(r"^```console\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]


def commands(page: str) -> set[str]:
    """Return every command of ours that a page names, in a console or in a sentence."""
    named = set(re.findall(r"`(dispatcher [a-z][^`]*)`", text(page).replace("\n", " ")))
    for line in consoles(page):
        found = re.search(r"(?:^|[\s/]|dispatcher:\S+ )(dispatcher [a-z].*)$", re.split(" [#>]", line)[0].strip())
        named |= {found[1]} if found else set[str]()
    return {re.sub(r"\s+", " ", command) for command in named}
