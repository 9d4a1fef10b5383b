"""docs/faults.md names every fault test, and every test it names is there."""

import re
from fnmatch import fnmatch

from tests.support.repository import ROOT

ROWS = [
    line.split("|")[1:-1] for line in (ROOT / "docs/faults.md").read_text().splitlines() if re.match(r"\| F\d", line)
]
TESTS = {
    name: path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"F\d+", text))


def named(cell: str) -> list[str]:
    """Return the tests that a cell names; `…` stands for the beginning of the name before it."""
    names: list[str] = []
    for word in re.findall(r"`([^`]+)`", cell):
        name = word.rsplit("::", 1)[-1].replace("…", "*")
        if name.startswith(("test_", "*")) and not name.endswith(".py"):
            names.append(name)
    return names


def test_every_fault_test_is_in_the_table_under_its_number():
    table = {number for row in ROWS for number in numbers(row[0])}
    tested = {
        number.upper()
        for name in TESTS
        for number in re.findall(r"f\d+", (re.match(r"test_((f\d+_)+)", name) or [""])[0])
    }
    assert tested <= table


def test_every_test_of_the_table_exists():
    missing = [name for row in ROWS for name in named(row[2]) if not any(fnmatch(test, name) for test in TESTS)]
    assert missing == []


def test_every_row_of_the_table_is_complete():
    assert len({number for row in ROWS for number in numbers(row[0])}) >= 95
    for row in ROWS:
        assert len(row) == 5, row
        assert all(cell.strip() for cell in row), row
        assert named(row[2]) or re.search(r"`[\w/]+\.py`|`make \w+`", row[2]), row
