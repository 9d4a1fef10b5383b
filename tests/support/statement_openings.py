"""The first bytes of our statements, by which a proxy recognises them on the wire."""

from tests.support.repository import text


def opening(statement: str) -> bytes:
    """Return the beginning of a statement of dispatcher/postgres/queries/, so that rewording it blinds no fault."""
    first_line = text(f"dispatcher/postgres/queries/{statement}.sql").splitlines()[0]
    assert first_line.startswith("-- ")
    assert "{" not in first_line
    return first_line.encode()
