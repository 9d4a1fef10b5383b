"""Sizes as people write them: `512KiB`, `2MB`, `524288`. Pure. A number without a unit is a number of bytes."""

import re

UNITS = {"gib": 1024**3, "mib": 1024**2, "kib": 1024, "gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1, "": 1}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([a-z]*)")


class Size(int):
    """A number of bytes. As text it has the largest binary unit that is exact."""

    def __str__(self) -> str:
        """Return text that `parse_size` reads back."""
        for unit in ("GiB", "MiB", "KiB"):
            count, rest = divmod(int(self), UNITS[unit.lower()])
            if count and not rest:
                return f"{count}{unit}"
        return repr(int(self))


def parse_size(text: str) -> Size:
    """Return `text` as a size; ValueError with advice if it is none."""
    found = _SIZE.fullmatch(text.strip().replace(" ", "").lower())
    if found is None or found[2] not in UNITS:
        raise ValueError("should be a size such as 524288, 512KiB or 2MB")
    return Size(float(found[1]) * UNITS[found[2]])
