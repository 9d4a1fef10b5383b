"""Modules and functions stay short enough to be read at once."""

import ast
from collections.abc import Iterator

from tests.support.repository import ROOT
from tests.support.source_strings import trees

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40


def functions() -> Iterator[tuple[str, int]]:
    """Yield the place of each function, and its number of lines without decorators."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_have_at_most_300_lines():
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in trees()}
    assert {path: count for path, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_functions_have_at_most_40_lines():
    lengths = dict(functions())
    assert len(lengths) > 500
    assert {place: count for place, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}
