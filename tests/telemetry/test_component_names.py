"""The field `component` of a log line leads to the module that wrote it."""

import ast

from tests.support.repository import ROOT

QUALIFIED = {"novu/client.py": "novu_client"}
"""Modules whose own name says too little without their room."""


def test_each_logger_is_named_after_its_module() -> None:
    named: dict[str, str] = {}
    for path in (ROOT / "dispatcher").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"get_logger", "logs.get_logger"}:
                named[str(path.relative_to(ROOT / "dispatcher"))] = ast.literal_eval(node.args[0])
    assert len(named) > 15
    wrong = {path: name for path, name in named.items() if QUALIFIED.get(path, path[:-3].rsplit("/", 1)[-1]) != name}
    assert not wrong
