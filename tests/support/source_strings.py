"""The package's source, read for what it says: docstrings, help texts, string constants and log events."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.repository import ROOT

PLACE = "\0"
"""Stands where a string has a value filled in."""
LOG_CALL = re.compile(r"(\w*log|logger)\.(info|warning|error|exception|critical)")


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the syntax tree of each module, by its path in the repository."""
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted((ROOT / "dispatcher").rglob("*.py"))}


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield each docstring, of attributes too, with its place."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield f"{path}:{node.lineno}", node.value.value


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield each literal help text of the command line with its place; a command's docstring is a docstring."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in ("help", "epilog", "short_help"):
                for text in strings_in(node.value):
                    yield f"{path}:{node.value.lineno}", text


def strings_in(tree: ast.AST) -> Iterator[str]:
    """Yield each string below a node; what a format fills in is `PLACE`."""
    parts_of_formats: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts_of_formats |= {id(part) for part in node.values}
            yield "".join(
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else PLACE
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts_of_formats:
            yield node.value


@cache
def log_events() -> frozenset[str]:
    """Return every event that the package logs by a literal name at level info or above."""
    found: set[str] = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and LOG_CALL.fullmatch(ast.unparse(node.func)):
                found |= {text for text in strings_in(node.args[0]) if text.isidentifier()}
            if isinstance(node, ast.keyword) and node.arg == "failure_event":
                found |= set(strings_in(node.value))
    return frozenset(found)
