"""README's figures: a paragraph made of a record. A part that the record does not have has no line."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench import burst, cost, counts, flood, history, idle, latency, producers, recipients, recovery, tenants, urgent
from bench import steady_figures as steady
from bench.contestants import BASE, FLOOR, PEERS
from bench.figures import Series, read
from bench.sizes import of_record
from bench.targets import JUDGES, Found, judge
from bench.verdict import summary

BEGIN, END = "<!-- figures of docs/bench.json: begin -->", "<!-- figures of docs/bench.json: end -->"
CURVE = "docs/bench.svg"
WIDTH = 120
BUSY = 2
"""Load for each core at the end of a run above which other work shared the machine."""


def replaced(readme: str, record: Mapping[str, Any]) -> str:
    """Return README with the figures of a record; ValueError if it has no place for them."""
    place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text, places = place.subn(lambda _: f"{BEGIN}\n{paragraph(record)}{END}", readme)
    if places != 1:
        raise ValueError(f"README.md needs one place between {BEGIN} and {END}")
    return text


def paragraph(record: Mapping[str, Any]) -> str:
    """Return the figures in Markdown."""
    found = Found(read(record), of_record(record))
    lines = [bullet(line) for part in LINES for line in part(found)]
    lines += map(bullet, verdict_lines(found))
    picture = [f"\n![Commit to SENT over the rate of a steady stream]({CURVE})"] if "steady" in found.parts else []
    return "\n".join([origin(record), "", *lines, *picture]) + "\n"


def origin(record: Mapping[str, Any]) -> str:
    """Return where the figures come from."""
    machine, commit = record["machine"], record["commit"] or "unknown"
    load = machine["load"][0]
    busy = f", which other work kept busy (load {load:.0f})" if load > BUSY * machine["cores"] else ""
    words = (
        f"{record['at'][:10]}, commit {commit}, everything on one machine of {machine['cores']} cores{busy}; "
        "[docs/bench.json](docs/bench.json) has the sizes, each value and its spread:"
    )
    return textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False)


def verdict_lines(found: Found) -> Iterator[str]:
    """Tell how many targets were met, and in which parts others were not."""
    yield f"T{summary(judge(found.parts, found.sizes))[1:]}; the record names each of them."
    for words, met in (("Missed", False), ("Not judged", None)):
        counts_by_part = {name: [verdict.met is met for verdict in part(found)] for name, part in JUDGES.items()}
        parts = [f"{name} ({sum(is_so)} of {len(is_so)})" for name, is_so in counts_by_part.items() if any(is_so)]
        if parts:
            yield f"{words}: {', '.join(parts)}."


def bullet(line: str) -> str:
    """Return one item of a list."""
    return textwrap.fill(
        line, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def times(over: Series | None, under: Series | None) -> str | None:
    """Return the ratio of two medians; None where one is missing or 0."""
    if over is None or under is None or not under.median:
        return None
    ratio = over.median / under.median
    return f"{ratio:.0f} ×" if ratio >= 10 else f"{ratio:.2f} ×"


def sentence(template: str, *values: str | None) -> Iterator[str]:
    """Return the sentence with its values, nothing where one of them is missing."""
    if None not in values:
        yield template.format(*values)


def median(series: Series | None, digits: int = 0) -> str | None:
    """Return a median as text; None where it is missing."""
    return f"{series.median:,.{digits}f}" if series else None


def latency_lines(found: Found) -> Iterator[str]:
    """Tell commit to Novu's request."""
    ratios = [
        times(found.series("latency", figure), found.series("latency", figure, FLOOR.name))
        for figure in (latency.P50, latency.P99)
    ]
    floor = "NOTIFY, eager start, one local activity and one novu-py call, nothing else"
    yield from sentence(f"From commit to Novu's request: {{}} the floor ({floor}) at the median, {{}} at p99.", *ratios)


def steady_lines(found: Found) -> Iterator[str]:
    """Tell the curve."""
    for enterprises in steady.ENTERPRISES:
        points = {
            rate: median(found.series("steady", steady.figure(enterprises, rate, "p50"))) for rate in steady.RATES
        }
        curve = ", ".join(f"{{}} ms at {rate}/s" for rate in points)
        yield from sentence(
            f"Single commits of {enterprises} enterprise(s), commit to SENT, p50: {curve}.", *points.values()
        )


def burst_lines(found: Found) -> Iterator[str]:
    """Tell the burst."""
    ours = found.series("burst", burst.ACCEPTED)
    peers = [found.series("burst", burst.ACCEPTED, peer.name) for peer in PEERS]
    known = [series for series in peers if series]
    better = max(known, key=lambda series: series.median) if len(known) == len(PEERS) else None
    words = f"A burst of {found.sizes.rows:,} rows: {{}} as fast as the better of the two."
    yield from sentence(words, times(ours, better))
    base = times(ours, found.series("burst", burst.ACCEPTED, BASE))
    yield from sentence(f"The same burst: {{}} as fast as commit {BASE}.", base)


def cost_lines(found: Found) -> Iterator[str]:
    """Tell the cost of a row."""
    spent = [median(found.series("cost", cost.figure(process)), 2) for process in cost.PROCESSES]
    actions = median(found.series("cost", cost.ACTIONS), 3)
    words = (
        "A row of a burst costs {} ms of processor time in dispatcher, {} in Temporal, {} in PostgreSQL; {} actions."
    )
    yield from sentence(words, *spent, actions)


def counts_lines(found: Found) -> Iterator[str]:
    """Tell the counts of a burst."""
    values = [(counts.EVENTS, 0), (counts.ROWS, 0), (counts.STATEMENTS, 3)]
    texts = [median(found.series("counts", figure), digits) for figure, digits in values]
    yield from sentence("In a burst: {} events a bulk call, {} rows a workflow, {} statements a row.", *texts)


def tenants_lines(found: Found) -> Iterator[str]:
    """Tell the rates of many enterprises."""
    one, *others = found.sizes.tenants
    rate = found.series("tenants", tenants.figure(*one))
    ratios = [times(found.series("tenants", tenants.figure(*shape)), rate) for shape in others]
    words = ", ".join(f"{{}} for {enterprises:,} enterprises x {rows:,} rows" for enterprises, rows in others)
    yield from sentence(f"Beside the rate of one enterprise: {words}.", *ratios)


def recipients_lines(found: Found) -> Iterator[str]:
    """Tell rows of many recipients."""
    few, many, most = found.sizes.recipients
    rates = [found.series("recipients", recipients.figures(size)[0]) for size in (many, few)]
    memory = median(found.series("recipients", recipients.figures(most)[1]))
    words = f"One row of {many:,} recipients: {{}} the rate of one of {few:,}. One of {most:,}: {{}} MB at its peak."
    yield from sentence(words, times(*rates), memory)


def urgent_lines(found: Found) -> Iterator[str]:
    """Tell urgent rows."""
    figures = (urgent.SAME, urgent.OTHER, urgent.BACKLOG)
    texts = [median(found.series("urgent", figure), 1) for figure in figures]
    words = (
        f"An urgent row behind {found.sizes.urgent_backlog:,}: {{}} s, of another enterprise {{}} s; all took {{}} s."
    )
    yield from sentence(words, *texts)


def history_lines(found: Found) -> Iterator[str]:
    """Tell the rate after a long history."""
    ratio = times(found.series("history", history.AFTER), found.series("history", history.BEFORE))
    yield from sentence(f"After {found.sizes.history_rows:,} settled rows: {{}} the rate before.", ratio)


def idle_lines(found: Found) -> Iterator[str]:
    """Tell the idle cost."""
    texts = (median(found.series("idle", idle.MEMORY)), median(found.series("idle", idle.PROCESSOR), 1))
    yield from sentence("An idle process: {} MB and {} % of a core.", *texts)


def flood_lines(found: Found) -> Iterator[str]:
    """Tell the effect of a flood."""
    ours, other = (found.series("flood", flood.figure(kind)) for kind in (flood.FLOODED, flood.ELSEWHERE))
    sizes = found.sizes
    load = f"{sizes.flood_requests_a_second:,} requests a second and {sizes.flood_slow_clients:,} slow clients"
    words = f"With {load} at its HTTP port: p99 is {{}} the p99 under the same flood at another port."
    yield from sentence(words, times(ours, other))


def producers_lines(found: Found) -> Iterator[str]:
    """Tell the producers' rates."""
    modes = (producers.ADAPTIVE, producers.ALWAYS)
    without = found.series("producers", producers.COMMITS, producers.NO_TRIGGER.name)
    ratios = [times(found.series("producers", producers.COMMITS, mode.name), without) for mode in modes]
    words = (
        f"While it works off a backlog, {producers.WRITERS} writers commit {{}} as often as without a trigger "
        "({} if every commit sent a NOTIFY)."
    )
    yield from sentence(words, *ratios)


def recovery_lines(found: Found) -> Iterator[str]:
    """Tell the rate after a crash."""
    ratio = times(found.series("recovery", recovery.AFTER), found.series("recovery", recovery.BEFORE))
    yield from sentence("After a crash of the PostgreSQL server a burst has {} the rate before.", ratio)


LINES: Sequence[Callable[[Found], Iterator[str]]] = (
    latency_lines,
    steady_lines,
    burst_lines,
    cost_lines,
    counts_lines,
    tenants_lines,
    recipients_lines,
    urgent_lines,
    history_lines,
    idle_lines,
    flood_lines,
    producers_lines,
    recovery_lines,
)
