"""docs/sentry.md has every kind of alert, and each of them is a line that the log really has.

Run as a program, this file writes the table.
"""

import ast
import re

from dispatcher.alerting.alerts import ALERT_RULES
from tests.support.repository import ROOT

PATH = ROOT / "docs/sentry.md"
BEGIN, END = "<!-- kinds -->\n", "<!-- /kinds -->"
WITHOUT_ALERT_RULE = {"novu_gate_shut"}
"""An outage tells it."""
BOUND = {"workflow_id"}
"""Fields that a logger carries."""


def table() -> str:
    """Return the table of kinds."""
    lines = ["| alert | when | one issue for each | level | what to do |", "|---|---|---|---|---|"]
    for name, kind in ALERT_RULES.items():
        what = ", ".join(f"`{field}`" for field in kind.group_by) or ("" if kind.title else "class and function")
        lines.append(f"| `{name}` | {kind.when} | {what} | {kind.level} | {kind.remedy} |")
    return "\n".join(lines) + "\n"


def logged() -> dict[str, tuple[str, set[str]]]:
    """Return every event that our code logs by a literal name: the method, and the names of its fields."""
    found: dict[str, tuple[str, set[str]]] = {}
    for path in (ROOT / "dispatcher").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and call.args:
                method = ast.unparse(call.func)
                if re.fullmatch(r"(\w*log|words)\.\w+|tell", method):
                    for name in re.findall(r"'(\w+)'", ast.unparse(call.args[0])):
                        found[name] = method.rpartition(".")[2], {word.arg or "" for word in call.keywords}
            if isinstance(call, ast.Call):  # `run_every` logs its `failure_event` with the exception
                events = (word.value for word in call.keywords if word.arg == "failure_event")
                found |= {ast.literal_eval(event): ("exception", set[str]()) for event in events}
    return found


def test_sentry_table_is_up_to_date():
    page = PATH.read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == table()


def test_every_alert_rule_names_fields_of_its_log_event():
    lines = logged()
    for name, kind in ALERT_RULES.items():
        if name not in ("ended", "library"):
            _, fields = lines[name]
            assert {*kind.group_by, *kind.context_fields} - BOUND <= fields, name


def test_every_logged_error_has_an_alert_rule():
    errors = {name for name, (method, _) in logged().items() if method in ("error", "exception", "critical")}
    assert errors, "nothing was found"
    assert errors - WITHOUT_ALERT_RULE <= ALERT_RULES.keys()


def test_alert_rules_never_group_by_an_id():
    assert [name for name, kind in ALERT_RULES.items() for field in kind.group_by if field.endswith("id")] == []


if __name__ == "__main__":
    before, _, rest = PATH.read_text().partition(BEGIN)
    PATH.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
