"""The picture of the curve: commit to SENT over the rate of a steady stream, p50 of each contestant, as SVG.

Both axes are logarithmic, because a hump is many times the latency beside it.
"""

import math
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from bench import steady_figures as steady
from bench.figures import Parts, read

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
STYLE = "<style>text{font:13px sans-serif;fill:#57606a}path{fill:none;stroke-width:2}line{stroke:#d0d7de}</style>"

Line = dict[int, float]
"""Milliseconds by rate."""


def picture(record: Mapping[str, Any]) -> str | None:
    """Return the picture of a record; None if it has no curve."""
    lines = curves(read(record))
    return drawn(lines) if lines else None


def curves(parts: Parts) -> dict[str, Line]:
    """Return the lines by their names."""
    lines: dict[str, Line] = {}
    for enterprises in steady.ENTERPRISES:
        for rate in steady.RATES:
            found = parts.get("steady", {}).get(steady.figure(enterprises, rate, "p50"), {})
            for contestant, series in found.items():
                lines.setdefault(f"{contestant}, {enterprises} enterprise(s)", {})[rate] = series.median
    return lines


def drawn(lines: Mapping[str, Line]) -> str:
    """Return the lines as a picture."""
    highest = max(value for line in lines.values() for value in line.values())
    decades = max(2, math.ceil(math.log10(highest)))

    def across(rate: float) -> float:
        share = math.log(rate / steady.RATES[0]) / math.log(steady.RATES[-1] / steady.RATES[0])
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def down(milliseconds: float) -> float:
        share = math.log10(max(milliseconds, 1)) / decades
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    shapes = [
        text(LEFT, 20, "Commit to SENT, p50 in milliseconds"),
        text(LEFT, HEIGHT - 10, "single commits per second"),
    ]
    for value in (10**exponent for exponent in range(decades + 1)):
        shapes.append(f'<line x1="{LEFT}" y1="{down(value)}" x2="{WIDTH - RIGHT}" y2="{down(value)}"/>')
        shapes.append(text(LEFT - 8, down(value) + 4, f"{value:,}", "end"))
    shapes += [text(across(rate), HEIGHT - BOTTOM + 20, str(rate), "middle") for rate in steady.RATES]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " L".join(f"{across(rate)},{down(value)}" for rate, value in line.items())
        shapes.append(f'<path d="M{points}" stroke="{colour}"/>')
        place = TOP + 20 * number
        shapes.append(f'<path d="M{WIDTH - RIGHT + 15},{place} h20" stroke="{colour}"/>')
        shapes.append(text(WIDTH - RIGHT + 42, place + 4, name))
    body = "\n".join([STYLE, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *shapes])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">\n{body}\n</svg>\n'


def text(across: float, down: float, words: str, anchor: str = "start") -> str:
    """Return one text."""
    return f'<text x="{across}" y="{down}" text-anchor="{anchor}">{escape(words)}</text>'
