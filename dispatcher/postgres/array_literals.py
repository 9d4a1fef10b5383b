"""Writes a list parameter as an array literal, by joining strings.

psycopg's own dumper of lists calls Python for each element, and chooses a type by the values. A batch has thousands of
elements, and every statement of ours casts its arrays or compares them with a column, so no type has to be chosen.
"""

from typing import Any

import psycopg
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper, PyFormat, Transformer

BETWEEN = "\x00"
"""Stands between two texts until they are escaped. PostgreSQL knows no text with this character."""


class ArrayLiteral(Dumper):
    """Dumps a flat list of any type that psycopg can dump. Its type is unknown to PostgreSQL, as that of a text is."""

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._elements = Transformer.from_context(context)
        encoding = self.connection.info.encoding if self.connection else "utf-8"
        self._encoding = "utf-8" if encoding == "ascii" else encoding  # as psycopg does for a text

    def dump(self, obj: list[Any]) -> bytes:
        """Return the literal, such as `{1,2,NULL}`. Raises DataError for a text with NUL, as psycopg does."""
        kinds = set(map(type, obj))
        if kinds == {int}:
            literal = ",".join(map(str, obj))
        elif kinds == {str}:
            literal = quote_texts(obj)
        else:
            literal = ",".join(map(self._element, obj))
        return f"{{{literal}}}".encode(self._encoding)

    def _element(self, value: Any) -> str:
        if value is None:
            return "NULL"
        if type(value) is str:
            return quote_texts([value])
        dumped = self._elements.get_dumper(value, PyFormat.TEXT).dump(value)
        return "NULL" if dumped is None else quote_texts([bytes(dumped).decode(self._encoding)])


def quote_texts(texts: list[str]) -> str:
    """Return the texts in double quotes, with commas between them. `texts` is not empty."""
    joined = BETWEEN.join(texts)
    if joined.count(BETWEEN) != len(texts) - 1:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace(BETWEEN, '","') + '"'
