"""The planted bugs fit the code: what moved or got another name is noticed here, not an hour into a run."""

import ast

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.support.repository import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_has_its_source_line_and_its_tests(mutant: Mutant):
    text = (ROOT / "dispatcher" / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"in {mutant.file}: {mutant.old}"
    for test in mutant.tests.split():
        path, *names = test.partition("[")[0].split("::")
        scope: ast.AST = ast.parse((ROOT / path).read_text())
        for name in names:
            scope = next(node for node in ast.iter_child_nodes(scope) if getattr(node, "name", None) == name)


def test_at_least_50_mutants():
    assert len(MUTANTS) >= 25
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
