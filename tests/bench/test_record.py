"""What is made of a run's figures: verdicts, the record, README's paragraph and the picture."""

import dataclasses
import json
from typing import Any

import pytest

from bench import backlog, burst, cost, counts, curve, latency, publish, readme, recipients, sizes, tenants, urgent
from bench import steady_figures as steady
from bench.contestants import BASE, DISPATCHER, FLOOR, PEERS
from bench.figures import Better, Parts, Value, add, read
from bench.parts import WHOLE
from bench.report import Results
from bench.sizes import QUICK, Sizes
from bench.targets import JUDGES, judge
from tests.support.repository import ROOT

SIZES = Sizes()
README = f"# Name\n\n{readme.BEGIN}\nold figures\n{readme.END}\n\n## Use it\n"


def parts_of(part: str, *found: tuple[str, str, float]) -> Parts:
    """One part with values of (contestant, figure, amount); the same figure twice means two rounds."""
    parts: Parts = {}
    for contestant, figure, amount in found:
        add(parts, part, contestant, {figure: Value(amount, "ms")})
    return parts


def verdict_of(parts: Parts, name: str) -> tuple[float, bool | None]:
    [verdict] = [verdict for verdict in judge(parts, SIZES) if verdict.name == name]
    return round(verdict.value, 4), verdict.met


def latencies(floor: tuple[float, float], ours: float) -> Parts:
    values = [(FLOOR.name, each) for each in floor] + [(DISPATCHER.name, ours)] * 2
    return parts_of("latency", *((name, latency.P50, each) for name, each in values))


def full_record() -> dict[str, Any]:
    parts = latencies((10, 11), 12.6)
    for enterprises in steady.ENTERPRISES:
        for rate in steady.RATES:
            values = {steady.figure(enterprises, rate, "p50"): Value(30 + rate, "ms")}
            add(parts, "steady", DISPATCHER.name, values)
    for name, rate in ((DISPATCHER.name, 3000), (BASE, 1500), *((peer.name, 100) for peer in PEERS)):
        add(parts, "burst", name, {burst.ACCEPTED: Value(rate, "rows/s", Better.HIGHER)})
    return Results(SIZES, quick=False, commit="abc1234", parts=parts).record()


def test_part_that_was_not_run_has_no_verdict_and_no_line():
    assert judge({}, SIZES) == []
    record = Results(SIZES, quick=False).record()
    assert record["parts"] == {}
    assert "burst" not in readme.paragraph(record)
    assert curve.picture(record) is None


def test_latency_is_judged_against_a_steady_floor():
    assert verdict_of(latencies((10, 11), 10.9), "latency p50, dispatcher / floor") == (1.0381, True)
    assert verdict_of(latencies((10, 11), 12.6), "latency p50, dispatcher / floor") == (1.2, False)


def test_latency_is_not_judged_where_the_floor_spreads():
    [verdict] = judge(latencies((10, 13), 12.6), SIZES)
    assert (verdict.met, verdict.why) == (None, "the floor spread by 1.30x")


def test_latency_beside_one_block_of_the_floor_is_not_judged():
    parts = parts_of("latency", (FLOOR.name, latency.P50, 10), (DISPATCHER.name, latency.P50, 10))
    assert [(verdict.met, verdict.why) for verdict in judge(parts, SIZES)] == [
        (None, "one block of the floor tells no spread")
    ]


def test_hump_of_the_curve_is_missed_at_its_rate_only():
    point = steady.figure
    parts = parts_of(
        "steady",
        *[(DISPATCHER.name, point(37, rate, "p50"), value) for rate, value in ((20, 30), (50, 95), (100, 80))],
        (DISPATCHER.name, point(37, 50, "p99"), 230),
    )
    assert verdict_of(parts, "steady p50 of 37 enterprise(s), 50/s / p50 at 20/s") == (3.1667, False)
    assert verdict_of(parts, "steady p50 of 37 enterprise(s), 100/s / p50 at 20/s") == (2.6667, True)
    assert verdict_of(parts, "steady p99 of 37 enterprise(s), 50/s / p50 at 20/s") == (7.6667, True)


def test_burst_is_judged_against_the_better_peer_and_the_base():
    rates = ((DISPATCHER.name, 3100), (BASE, 1800), (PEERS[0].name, 100), (PEERS[1].name, 60))
    parts = parts_of("burst", *((name, burst.ACCEPTED, rate) for name, rate in rates))
    assert verdict_of(parts, "burst, dispatcher / better peer") == (31, True)
    assert verdict_of(parts, f"burst, dispatcher / {BASE}") == (1.7222, False)


def test_burst_of_one_peer_only_is_not_judged():
    parts = parts_of("burst", (DISPATCHER.name, burst.ACCEPTED, 3100), (PEERS[0].name, burst.ACCEPTED, 1))
    assert judge(parts, SIZES) == []


def test_cost_is_judged_against_the_base():
    parts = parts_of(
        "cost", *((name, cost.figure(cost.ALL), value) for name, value in ((DISPATCHER.name, 0.6), (BASE, 1)))
    )
    assert verdict_of(parts, f"processor, all three, dispatcher / {BASE}") == (0.6, False)


def test_most_enterprises_have_the_lower_limit():
    rates = zip(SIZES.tenants, (1000, 880, 910, 760), strict=True)
    parts = parts_of("tenants", *((DISPATCHER.name, tenants.figure(*shape), rate) for shape, rate in rates))
    met = {verdict.name: verdict.met for verdict in judge(parts, SIZES)}
    assert met == {
        "200 enterprises x 500 / one": False,
        "2,000 enterprises x 10 / one": True,
        "20,000 enterprises x 1 / one": True,
    }


def test_each_run_of_many_recipients_counts():
    few, many = (recipients.figures(size)[0] for size in SIZES.recipients[:2])
    found = [(DISPATCHER.name, few, 1000), (DISPATCHER.name, few, 1000), (DISPATCHER.name, many, 2000)]
    parts = parts_of("recipients", *found, (DISPATCHER.name, many, 800))
    assert verdict_of(parts, "row of 50,000 recipients / of 10,000, worst run") == (0.8, False)


def test_urgent_row_is_judged_against_backlog_and_yardstick():
    values = ((urgent.SAME, 3), (urgent.BACKLOG, 40), (urgent.REFERENCE, 2))
    parts = parts_of("urgent", *((DISPATCHER.name, figure, value) for figure, value in values))
    assert verdict_of(parts, f"urgent row / {urgent.BACKLOG}") == (0.075, False)
    assert verdict_of(parts, f"urgent row / {urgent.REFERENCE}") == (1.5, True)


def test_claim_is_judged_for_each_number_of_enterprises():
    few, many = SIZES.backlogs
    found = [(200, few, 10.0), (200, many, 14.0), (1, few, 10.0), (1, many, 12.0)]
    parts = parts_of("backlog", *((DISPATCHER.name, backlog.figure(each, rows), value) for each, rows, value in found))
    assert [verdict.met for verdict in judge(parts, SIZES)] == [True, False]


def test_counts_are_judged_by_themselves():
    values = ((counts.EVENTS, 96), (counts.ROWS, 399), (counts.STATEMENTS, 0.015))
    parts = parts_of("counts", *((DISPATCHER.name, figure, value) for figure, value in values))
    assert [verdict.met for verdict in judge(parts, SIZES)] == [True, False, True]


def test_record_can_be_read_and_judged_again():
    record = json.loads(json.dumps(full_record()))
    assert sizes.of_record(record) == SIZES
    again = [dataclasses.asdict(verdict) for verdict in judge(read(record), sizes.of_record(record))]
    assert again == record["verdicts"] != []
    found = record["parts"]["latency"][latency.P50][FLOOR.name]
    assert (found["median"], found["least"], found["most"], found["values"]) == (10.5, 10, 11, [10, 11])


def test_logged_statements_are_counted_without_transactions():
    log = b"""2026-01-01 LOG:  statement: BEGIN
2026-01-01 LOG:  execute _pg3_0: select 1
\tfrom t
2026-01-01 LOG:  statement: select pg_notify('a', '')
2026-01-01 LOG:  execute <unnamed>: with a as (select 1) select 2
2026-01-01 LOG:  statement: COMMIT
2026-01-01 LOG:  checkpoint starting: time
""".splitlines()
    assert counts.count_statements(log) == 3


@pytest.mark.parametrize("words", ["rowz=1", "rows=", "rows=0", "rows=1,2", "recipients=5", "rows"])
def test_wrong_size_is_refused(words: str):
    with pytest.raises(ValueError, match=r"no size|number|invalid literal"):
        sizes.parse([words], SIZES)


def test_sizes_are_parsed():
    changed = sizes.parse(["rows=7", "backlogs=1,2"], QUICK)
    assert (changed.rows, changed.backlogs, changed.peer_rows) == (7, (1, 2), QUICK.peer_rows)


def test_readme_keeps_the_text_around_its_figures():
    text = readme.replaced(README, full_record())
    assert text.startswith(f"# Name\n\n{readme.BEGIN}\n")
    assert text.endswith(f"{readme.END}\n\n## Use it\n")
    assert "old figures" not in text
    assert "- A burst of 10,000 rows: 30 \N{MULTIPLICATION SIGN} as fast as the better of the two." in text
    assert "37 enterprise(s), commit to SENT, p50: 50 ms at 20/s, 80 ms at 50/s" in text
    assert "- Targets: " in text
    assert "- Missed: latency (1 of 1), steady (4 of 8)." in text
    assert readme.replaced(text, full_record()) == text


def test_readme_without_a_place_for_figures_is_refused():
    with pytest.raises(ValueError, match=r"README\.md needs one place"):
        readme.replaced("# Name\n", full_record())


def test_picture_has_a_line_for_each_contestant_and_a_label_for_each_rate():
    drawn = curve.picture(full_record())
    assert drawn is not None
    assert drawn.count("<path") == 2 * len(steady.ENTERPRISES)
    assert all(f">{rate}</text>" in drawn for rate in steady.RATES)


def test_every_part_of_a_whole_run_is_judged():
    assert list(JUDGES) == WHOLE


def test_readme_and_picture_agree_with_the_record():
    record = json.loads(publish.RECORD.read_text())
    text = publish.README.read_text()
    assert readme.replaced(text, record) == text, "run `python -m bench.publish`"
    place = ROOT / readme.CURVE
    assert (place.read_text() if place.exists() else None) == curve.picture(record), "run `python -m bench.publish`"


def test_record_holds_the_verdicts_on_its_figures():
    record = json.loads(publish.RECORD.read_text())
    assert not record["quick"]
    again = [dataclasses.asdict(verdict) for verdict in judge(read(record), sizes.of_record(record))]
    assert again == record["verdicts"]
