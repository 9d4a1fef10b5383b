"""The beginnings of our statements, by which a proxy or `pg_stat_activity` recognises them on the wire."""

from importlib import resources


def opening(name: str) -> str:
    """Return the first 24 characters of queries/`name`.sql, which are the beginning of its comment."""
    text = resources.files("dispatcher.postgres").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    assert text.startswith("-- ")
    return text[:24]
