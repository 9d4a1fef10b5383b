"""The files of the repository, for tests that read them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def text(path: str) -> str:
    """Return a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")
