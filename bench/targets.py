"""The targets: which ratio of two figures of one run, or which count, is judged against which limit.

A figure that the run does not have gives no verdict. A latency is not judged where the floor itself spreads too much
between its blocks: then the machine, and not Dispatcher, decides the ratio.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench import (
    backlog,
    burst,
    cost,
    counts,
    flood,
    history,
    idle,
    latency,
    producers,
    recipients,
    recovery,
    tenants,
    urgent,
)
from bench import steady_figures as steady
from bench.contestants import BASE, DISPATCHER, FLOOR, ONE_BY_ONE, PEERS
from bench.figures import Parts, Series
from bench.sizes import Sizes
from bench.verdict import Verdict, at_least, at_most

OURS = DISPATCHER.name
FLOOR_SPREADS = {latency.P50: 1.2, latency.P99: 1.5}
"""The largest value of the floor's blocks, as a multiple of the smallest, up to which a latency is judged."""

Limit = Callable[[str, float, float], Verdict]


@dataclass(frozen=True)
class Found:
    """The figures of one run, and its sizes."""

    parts: Parts
    sizes: Sizes

    def series(self, part: str, figure: str, contestant: str = OURS) -> Series | None:
        """Return the values of one figure; None if the run does not have it."""
        return self.parts.get(part, {}).get(figure, {}).get(contestant)

    def ratio(self, name: str, over: Series | None, under: Series | None, limit: Limit, target: float) -> list[Verdict]:
        """Return the verdict on a ratio of two medians; none where one of them is missing or 0."""
        if over is None or under is None or not under.median:
            return []
        return [limit(name, over.median / under.median, target)]


def judge(parts: Parts, sizes: Sizes) -> list[Verdict]:
    """Return the verdict on each judged number of a run."""
    found = Found(parts, sizes)
    return [verdict for part in JUDGES.values() for verdict in part(found)]


def judge_latency(found: Found) -> Iterator[Verdict]:
    """Judge the latency of one row at a time against the floor's."""
    floors = {figure: found.series("latency", figure, FLOOR.name) for figure in FLOOR_SPREADS}
    unsteady = [
        "one block of the floor tells no spread"
        if len(floor.values) == 1
        else f"the floor spread by {floor.spread:.2f}x"
        for figure, floor in floors.items()
        if floor and (len(floor.values) == 1 or floor.spread > FLOOR_SPREADS[figure])
    ]
    for figure, limit in ((latency.P50, 1.05), (latency.P99, 1.3)):
        ours = found.series("latency", figure)
        for verdict in found.ratio(f"{figure}, dispatcher / floor", ours, floors[figure], at_most, limit):
            yield replace(verdict, met=None, why=unsteady[0]) if unsteady else verdict


def judge_steady(found: Found) -> Iterator[Verdict]:
    """Judge the latency at each rate against the median at the lowest: the curve has no hump."""
    for enterprises in steady.ENTERPRISES:
        lowest, *others = steady.RATES
        slow = found.series("steady", steady.figure(enterprises, lowest, "p50"))
        for rate in others:
            name = f"of {enterprises} enterprise(s), {rate}/s / p50 at {lowest}/s"
            for percentile, limit in (("p50", 3), ("p99", 8)):
                fast = found.series("steady", steady.figure(enterprises, rate, percentile))
                yield from found.ratio(f"steady {percentile} {name}", fast, slow, at_most, limit)


def judge_burst(found: Found) -> Iterator[Verdict]:
    """Judge the rate of a burst against the better peer's, against one workflow per row, and against commit BASE."""
    ours = found.series("burst", burst.ACCEPTED)
    peers = [series for peer in PEERS if (series := found.series("burst", burst.ACCEPTED, peer.name))]
    if len(peers) == len(PEERS):
        better = max(peers, key=lambda series: series.median)
        yield from found.ratio("burst, dispatcher / better peer", ours, better, at_least, 30)
    for name, other, limit in (("one workflow per row", ONE_BY_ONE.name, 10), (BASE, BASE, 1.8)):
        series = found.series("burst", burst.ACCEPTED, other)
        yield from found.ratio(f"burst, dispatcher / {name}", ours, series, at_least, limit)


def judge_cost(found: Found) -> Iterator[Verdict]:
    """Judge the processor time of a row against that of commit BASE."""
    for process, limit in ((cost.ALL, 0.55), ("Temporal", 0.3)):
        figure = cost.figure(process)
        ours, base = found.series("cost", figure), found.series("cost", figure, BASE)
        yield from found.ratio(f"{figure}, dispatcher / {BASE}", ours, base, at_most, limit)


def judge_tenants(found: Found) -> Iterator[Verdict]:
    """Judge the rate of many enterprises against that of one."""
    one, *others = found.sizes.tenants
    for shape in others:
        limit = 0.75 if shape == others[-1] else 0.9
        many, single = (found.series("tenants", tenants.figure(*each)) for each in (shape, one))
        yield from found.ratio(f"{shape[0]:,} enterprises x {shape[1]:,} / one", many, single, at_least, limit)


def judge_recipients(found: Found) -> Iterator[Verdict]:
    """Judge the rate of a row of very many recipients against that of fewer, in each run, and the memory."""
    few, many, most = found.sizes.recipients
    smaller, larger = (found.series("recipients", recipients.figures(size)[0]) for size in (few, many))
    if smaller and larger:
        worst = min(large / small for small, large in zip(smaller.values, larger.values, strict=True))
        yield at_least(f"row of {many:,} recipients / of {few:,}, worst run", worst, 0.9)
    memory = found.series("recipients", recipients.figures(most)[1])
    if memory:
        yield at_most(f"memory, row of {most:,} recipients", max(memory.values), 250, " MB")


def judge_urgent(found: Found) -> Iterator[Verdict]:
    """Judge an urgent row behind a backlog of its own enterprise."""
    same = found.series("urgent", urgent.SAME)
    for figure, limit in ((urgent.BACKLOG, 0.05), (urgent.REFERENCE, 2)):
        yield from found.ratio(f"urgent row / {figure}", same, found.series("urgent", figure), at_most, limit)


def judge_backlog(found: Found) -> Iterator[Verdict]:
    """Judge a claim with very many due rows against one with few."""
    few, many = found.sizes.backlogs
    for enterprises in found.sizes.backlog_enterprises:
        over, under = (found.series("backlog", backlog.figure(enterprises, rows)) for rows in (many, few))
        name = f"claim of {enterprises:,} enterprise(s), {many:,} due / {few:,}"
        yield from found.ratio(name, over, under, at_most, 1.3)


def judge_history(found: Found) -> Iterator[Verdict]:
    """Judge the rate after a long history."""
    after, before = (found.series("history", figure) for figure in (history.AFTER, history.BEFORE))
    name = f"burst after {found.sizes.history_rows:,} settled rows / before"
    yield from found.ratio(name, after, before, at_least, 0.95)


def judge_counts(found: Found) -> Iterator[Verdict]:
    """Judge the counts of a burst."""
    limits: tuple[tuple[str, Limit, float], ...] = (
        (counts.EVENTS, at_least_count, 95),
        (counts.ROWS, at_least_count, 400),
        (counts.STATEMENTS, at_most_count, 0.016),
    )
    for figure, limit, target in limits:
        if series := found.series("counts", figure):
            yield limit(figure, series.median, target)


def judge_idle(found: Found) -> Iterator[Verdict]:
    """Judge memory and processor time of an idle Dispatcher, and the time until it is ready."""
    for figure, limit, unit in ((idle.MEMORY, 120, " MB"), (idle.PROCESSOR, 1, " % of a core"), (idle.READY, 3, " s")):
        if series := found.series("idle", figure):
            yield at_most(f"{figure}, dispatcher", series.median, limit, unit)


def judge_producers(found: Found) -> Iterator[Verdict]:
    """Judge the producers' rate of commits with adaptive NOTIFY against that without a trigger."""
    modes = (producers.ADAPTIVE.name, producers.NO_TRIGGER.name)
    adaptive, without = (found.series("producers", producers.COMMITS, mode) for mode in modes)
    yield from found.ratio("producers' commits, adaptive / no trigger", adaptive, without, at_least, 0.96)
    bare = found.series("producers", producers.COMMITS, producers.BARE.name)
    yield from found.ratio("producers' commits, adaptive / no trigger and no index", adaptive, bare, at_least, 0.9)


def judge_recovery(found: Found) -> Iterator[Verdict]:
    """Judge the rate after the database's crash against that before."""
    after, before = (found.series("recovery", figure) for figure in (recovery.AFTER, recovery.BEFORE))
    yield from found.ratio("recovery, after / before PostgreSQL's crash", after, before, at_least, 0.98)


def judge_flood(found: Found) -> Iterator[Verdict]:
    """Judge the latency during a flood at our port against that during a flood at another port."""
    ours, other = (found.series("flood", flood.figure(kind)) for kind in (flood.FLOODED, flood.ELSEWHERE))
    yield from found.ratio("latency p99, our port flooded / another", ours, other, at_most, 1.1)


def at_least_count(name: str, value: float, limit: float) -> Verdict:
    """Return the verdict on a count with a lower limit."""
    return at_least(name, value, limit, "")


def at_most_count(name: str, value: float, limit: float) -> Verdict:
    """Return the verdict on a count with an upper limit."""
    return at_most(name, value, limit, "")


JUDGES: dict[str, Callable[[Found], Iterator[Verdict]]] = {
    "latency": judge_latency,
    "steady": judge_steady,
    "burst": judge_burst,
    "cost": judge_cost,
    "counts": judge_counts,
    "tenants": judge_tenants,
    "recipients": judge_recipients,
    "urgent": judge_urgent,
    "backlog": judge_backlog,
    "history": judge_history,
    "idle": judge_idle,
    "recovery": judge_recovery,
    "flood": judge_flood,
    "producers": judge_producers,
}
"""By part."""
