"""Alerts, recording rules, dashboard, runbook: they parse, and they name what there is."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import promql_parser
import pytest

from dispatcher.models.call_result import AnswerClass
from dispatcher.telemetry import metrics
from dispatcher.telemetry.health import COMPONENTS
from dispatcher.wakeup.signal import WakeSource
from tests.platforms.declared_metrics import declared
from tests.platforms.deploy_files import documents
from tests.support.repository import ROOT, text

SUFFIXES = {"gauge": [""], "counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
OF_PROMETHEUS = {"job", "instance", "alertname", "alertstate"}
OF_THE_DATABASE = {
    "dispatcher_outbox_rows": {"status": ("PENDING", "PROCESSING", "SENT", "PARTIAL", "FAILED", "RETRACTED")},
    "dispatcher_nodes": {"mode": ("EVENT", "POLLING")},
}
FREE = {"version", "python", "le"}
"""Labels that may say anything."""

ALERTS = documents("ops/prometheus/alerts.yml")[0]["groups"]
RECORDINGS = documents("ops/prometheus/recording.yml")[0]["groups"]
CASES = documents("ops/prometheus/tests.yml")[0]
DASHBOARD = json.loads(text("ops/grafana/dispatcher.json"))
RULES: list[dict[str, Any]] = [rule for group in [*ALERTS, *RECORDINGS] for rule in group["rules"]]


def series() -> dict[str, set[str]]:
    """Return every series that can be asked for, with its labels."""
    found = {rule["record"]: set[str]() for rule in RULES if "record" in rule} | {
        "up": set[str](),
        "ALERTS": set[str](),
    }
    for metric in declared():
        for suffix in SUFFIXES[metric.kind]:
            found[metric.name + suffix] = {*metric.labels} | ({"le"} if suffix == "_bucket" else set())
    return found


def values() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the possible values of the labels of every series, where they are a fixed set."""
    said = metrics.LABEL_VALUES | OF_THE_DATABASE
    return {
        metric.name + suffix: said.get(metric.name, {}) for metric in declared() for suffix in SUFFIXES[metric.kind]
    }


def never_said(selector: Any) -> set[str]:
    """Return the label values of a selector that no series has."""
    said = values().get(selector.name, {})
    asked = [(each.value.split("|"), said[each.name]) for each in selector.matchers.matchers if each.name in said]
    return {word for words, known in asked for word in words if word not in known}


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def drawn() -> list[str]:
    """Return the dashboard's expressions, with Grafana's variables as Grafana fills them in."""
    found = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return [expr.replace("$__rate_interval", "1m").replace("$job", "dispatcher") for expr in found]


def expressions() -> list[str]:
    return [rule["expr"] for rule in RULES] + [
        each["expr"] for test in CASES["tests"] for each in test["promql_expr_test"]
    ]


def selectors(node: Any) -> Iterator[Any]:
    """Walk an expression down to what it asks for."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)
    else:
        for part in ("expr", "lhs", "rhs", "param"):
            if getattr(node, part, None) is not None:
                yield from selectors(getattr(node, part))


def grouped_by(expression: str) -> set[str]:
    found = re.findall(r"\b(?:by|without|on|ignoring) ?\(([^)]*)\)", expression)
    return {label.strip() for labels in found for label in labels.split(",") if label.strip()}


@pytest.mark.parametrize("expression", [*expressions(), *drawn()])
def test_every_expression_parses_and_names_existing_metrics(expression: str):
    asked = list(selectors(promql_parser.parse(expression)))
    assert asked
    there = series()
    for selector in asked:
        assert selector.name in there, f"{selector.name}: nobody registers it"
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= there[selector.name] | OF_PROMETHEUS, f"{selector.name} has no label {matched}"
        assert not never_said(selector), f"{selector.name} never says {never_said(selector)}"
    if "__" not in expression:
        assert grouped_by(expression) <= set().union(*(there[each.name] for each in asked)) | OF_PROMETHEUS


def test_expression_parser_finds_every_metric_name():
    text = "a and on () sum by (x) (rate(b[5m])) / c offset 1h > 3 or absent(d == 1) or max_over_time(e[1h:1m])"
    assert [each.name for each in selectors(promql_parser.parse(text))] == ["a", "b", "c", "d", "e"]


def test_database_gauges_are_never_summed():
    """Every process exports it, so a sum would count it once for each process."""
    for expression in [*expressions(), *drawn()]:
        assert not re.search(r"sum[^(]*\((?:rate\()?dispatcher_(outbox|dead|nodes|pg_)", expression), expression


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_every_alert_has_a_description_and_a_runbook_section(rule: dict[str, Any]):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "warn"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/runbook.md", rule["alert"].lower())
    assert re.findall(rf"^## {rule['alert']}$", text(page), re.MULTILINE) == [f"## {rule['alert']}"]


def test_runbook_has_no_section_of_a_removed_alert():
    pages = set(re.findall(r"^## (Dispatcher\w+)$", text("docs/runbook.md"), re.MULTILINE))
    assert pages == {rule["alert"] for rule in RULES if "alert" in rule}


def test_every_alert_has_a_test_case_that_fires():
    fired = {
        re.sub(r'.*alertname="(\w+)".*', r"\1", sample["labels"])
        for test in CASES["tests"]
        for each in test["promql_expr_test"]
        for sample in each["exp_samples"]
    }
    assert fired == {rule["alert"] for rule in RULES if "alert" in rule}


def test_rule_cases_use_existing_series():
    for test in CASES["tests"]:
        for fed in test["input_series"]:
            selector = promql_parser.parse(fed["series"])
            assert isinstance(selector, promql_parser.VectorSelector)
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert selector.name is not None
            assert labels <= series()[selector.name] | OF_PROMETHEUS, fed["series"]
            assert not never_said(selector), fed["series"]


@pytest.mark.parametrize("metric", declared(), ids=lambda metric: metric.name)
def test_every_label_has_declared_values(metric: Any):
    said = (metrics.LABEL_VALUES | OF_THE_DATABASE).get(metric.name, {})
    assert set(said) == set(metric.labels) - FREE


def test_declared_label_values_are_those_of_the_code():
    assert set(metrics.WAKE_SOURCES) == set(get_args(WakeSource))
    assert metrics.LABEL_VALUES["dispatcher_part_broken"]["part"] == COMPONENTS
    assert set(metrics.LABEL_VALUES["dispatcher_novu_triggers"]["outcome"]) == set(AnswerClass)
    found = [word for file in (ROOT / "dispatcher").rglob("*.py") for word in written(ast.parse(file.read_text()))]
    assert found
    for name, label, word in found:
        assert word in metrics.LABEL_VALUES[name][label], f"{name} says {word}"


def written(module: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield metric, label and word of every `metrics.NAME.labels("word")`."""
    for node in ast.walk(module):
        match node:
            case ast.Call(ast.Attribute(ast.Attribute(ast.Name("metrics"), name), "labels"), arguments):
                metric = getattr(metrics, name)
                for label, argument in zip(getattr(metric, "_labelnames"), arguments, strict=True):  # noqa: B009
                    for each in ast.walk(argument):
                        if isinstance(each, ast.Constant):
                            yield metric.describe()[0].name, label, str(each.value)
            case _:
                pass


def test_dashboard_loads_and_each_panel_has_a_description():
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    assert (DASHBOARD["uid"], DASHBOARD["schemaVersion"]) == ("dispatcher", 39)
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job"}
    for panel in panels():
        assert panel["type"] in {"row", "stat", "timeseries", "table"}
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["targets"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24


def test_compose_prometheus_loads_both_rule_files_and_scrapes_the_alerts_jobs():
    config = documents("docker/prometheus/prometheus.yml")[0]
    assert {name.rsplit("/", 1)[1] for name in config["rule_files"]} == {"alerts.yml", "recording.yml"}
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    asked = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert asked == {"dispatcher"}
    assert jobs == {"dispatcher", "dispatcher-web"}
