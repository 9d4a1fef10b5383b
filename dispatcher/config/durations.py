"""Durations as people write them: `10s`, `500ms`, `1h30m`, `PT30S`. Pure.

A number without a unit is refused, because the reader cannot know whether 30 means seconds or milliseconds.
"""

import re
from datetime import timedelta

UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
_SHORT = re.compile(rf"(?:{_PART.pattern})+")
_ISO = re.compile(
    r"P(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+(?:\.[0-9]+)?)S)?)?", re.IGNORECASE
)
_ADVICE = "should be a duration such as 500ms, 10s, 5m, 2h or PT30S"


def parse_duration(text: str) -> timedelta:
    """Return `text` as a duration; ValueError with advice if it is none."""
    compact = text.strip().replace(" ", "").lower()
    try:
        if _SHORT.fullmatch(compact):
            return sum((float(number) * UNITS[unit] for number, unit in _PART.findall(compact)), timedelta())
        if (iso := _ISO.fullmatch(compact)) and any(iso.groups()):
            amounts = zip(iso.groups(), "dhms", strict=True)
            return sum((float(number) * UNITS[unit] for number, unit in amounts if number), timedelta())
    except OverflowError:
        pass  # more days than `timedelta` can hold: the same advice fits
    raise ValueError(_ADVICE)


def format_duration(duration: timedelta) -> str:
    """Return `duration` as text that `parse_duration` reads back, rounded to milliseconds."""
    rest = round(duration / UNITS["ms"])
    parts: list[str] = []
    for unit, length in UNITS.items():
        count, rest = divmod(rest, length // UNITS["ms"])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
